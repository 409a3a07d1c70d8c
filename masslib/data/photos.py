"""Photos in files, decoded by Pillow when they are read: one function for NumPy and for `tf.data`, so the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from masslib._util.photos import Decoder
from masslib.data.rows import Index, Rows


class PhotoRows(Rows):
    """Rows that are photos in files; in memory are their names alone.

    Args:
        folder: where the files lie.
        names: their names in it.
        decode: makes an array of a file.

    Attributes:
        decoder: the same.
    """

    def __init__(self, folder: Path, names: Sequence[str] | np.ndarray, decode: Decoder) -> None:
        super().__init__((*decode.image_size, decode.channels), np.uint8, 1 / 255)
        self._folder, self._names, self.decoder = folder, np.asarray(names, object), decode

    def __len__(self) -> int:
        return len(self._names)

    def raw(self, rows: Index) -> np.ndarray:
        """Decodes some of the files.

        Raises:
            ValueError: a file cannot be read any more.
        """
        names = self._names[rows]
        if isinstance(names, str):
            return self._one(names)
        photos = np.empty((len(names), *self.shape), np.uint8)
        for k, name in enumerate(names):
            photos[k] = self._one(name)
        return photos

    def select(self, rows: slice | np.ndarray) -> PhotoRows:
        """Some of the photos, without reading them."""
        return PhotoRows(self._folder, self._names[rows], self.decoder)

    def _one(self, name: str) -> np.ndarray:
        try:
            return self.decoder(self._folder / name)
        except Exception as error:  # whatever a damaged file makes Pillow raise
            raise ValueError(
                f"{self._folder / name} was readable when from_directory looked at it and is not any more: {error!r}. "
                "Restore it, or call from_directory again."
            ) from error

    def __repr__(self) -> str:
        return "photos in files"
