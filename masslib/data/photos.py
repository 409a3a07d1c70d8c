"""Photos in files, decoded by Pillow when they are read: one function for NumPy and for `tf.data`, so the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from masslib.data.rows import Index, Rows

if TYPE_CHECKING:
    from PIL import Image


class Unsuitable(ValueError):
    """A photo that could be decoded, and is not to be."""


@dataclass(frozen=True)
class Decoder:
    """How a PNG or JPEG file becomes an array.

    Attributes:
        image_size: height and width.
        channels: 1 for grey, 3 for colour.
        resize: "stretch", "crop" or "pad".
        max_pixels: no file with more pixels is decoded.
    """

    image_size: tuple[int, int]
    channels: int
    resize: str
    max_pixels: int

    def __call__(self, path: str | Path) -> np.ndarray:
        """Decodes one file into uint8 `(h, w, c)`.

        Turned as its EXIF entry says; 16 bits become 8; what is transparent becomes white. A JPEG much larger
        than needed is decoded at 1/2, 1/4 or 1/8 (`PIL.Image.Image.draft`), never below twice `image_size`.

        Raises:
            Unsuitable: too many pixels, or an animation.
            OSError, SyntaxError and others: what Pillow raises for what it cannot read.
        """
        from PIL import Image, ImageOps

        with Image.open(path, formats=("PNG", "JPEG")) as image:
            pixels = image.width * image.height
            if pixels > self.max_pixels:
                raise Unsuitable(
                    f"too large: {image.width} x {image.height} pixels, at most {self.max_pixels:,} in all"
                )
            # Not for JPEG: the second picture in a phone's file is a preview or a brightness map.
            if image.format == "PNG" and image.is_animated:
                raise Unsuitable(f"animated: {image.n_frames} frames")
            image.draft(None, (2 * max(self.image_size),) * 2)
            image.load()
            return self._fit(_plain(ImageOps.exif_transpose(image), self.channels))

    def _fit(self, image: Image.Image) -> np.ndarray:
        from PIL import Image, ImageOps

        size, smooth = self.image_size[::-1], Image.Resampling.BILINEAR
        if self.resize == "stretch":
            image = image.resize(size, smooth)
        else:
            image = (ImageOps.fit if self.resize == "crop" else ImageOps.pad)(image, size, smooth)
        return np.asarray(image).reshape(*self.image_size, self.channels)


def _plain(image: Image.Image, channels: int) -> Image.Image:
    """8-bit grey or RGB without transparency, of any mode."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # convert() would clip instead
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


class PhotoRows(Rows):
    """Rows that are photos in files; in memory are their names alone.

    Args:
        folder: where the files lie.
        names: their names in it.
        decode: makes an array of a file.
    """

    def __init__(self, folder: Path, names: Sequence[str] | np.ndarray, decode: Decoder) -> None:
        super().__init__((*decode.image_size, decode.channels), np.uint8, 1 / 255)
        self._folder, self._names, self._decode = folder, np.asarray(names, object), decode

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
        return PhotoRows(self._folder, self._names[rows], self._decode)

    def _one(self, name: str) -> np.ndarray:
        try:
            return self._decode(self._folder / name)
        except Exception as error:  # whatever a damaged file makes Pillow raise
            raise ValueError(
                f"{self._folder / name} was readable when from_directory looked at it and is not any more: {error!r}. "
                "Restore it, or call from_directory again."
            ) from error

    def __repr__(self) -> str:
        return "photos in files"
