"""Photos in files, decoded by Pillow when they are read: one function for NumPy and for `tf.data`, so the same bits."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from masslib._util import progress
from masslib._util.extras import needed_by
from masslib._util.mapping import mapped
from masslib._util.photos import Decoder, Unsuitable
from masslib.data.batches import whole
from masslib.data.rows import Index, Rows

_RESIZE = ("stretch", "crop", "pad")
_MANY = 2000
_LEAST, _JOBS = 100, 64  # files that a job looks at, and how many jobs if there are many files
_TOLD = 5  # files that an error names


def photos(
    paths: Sequence[str | os.PathLike[str]],
    *,
    image_size: tuple[int, int],
    channels: int = 3,
    resize: str = "stretch",
    max_pixels: int = 64_000_000,
    on: Any = None,
) -> PhotoRows:
    """Makes a field of photos (PNG, JPEG) in files, for `from_arrays`, beside columns or other fields.

    Every file is decoded once to see whether it can be read. Photos stay files: they are decoded (by Pillow, in any
    colour mode), resized and scaled to [0, 1] whenever they are read.

    Args:
        paths: `(n,)` one file per row, such as a column of a table; relative ones are looked for from the working
            directory.
        image_size: height and width that all photos get, in pixels.
        channels: 1 for grey, 3 for colour.
        resize: "stretch" gives up the proportions (as Keras does by default), "crop" cuts the middle out, "pad"
            adds black bars.
        max_pixels: photos with more pixels are not decoded, whatever their size in bytes.
        on: who looks at the files: None for threads of this process, or as in `write_shards`; others must find the
            files under these names.

    Returns:
        The rows, in the order of the paths.

    Raises:
        TypeError: `paths` is no sequence of paths, or a number of the wrong type.
        UnreadablePhotos: a ValueError, if some files cannot be read; its `reasons` tell which rows to leave out of all
            fields, and why.
        ValueError: no paths, or an argument out of range.

    Example:
        >>> import pathlib, tempfile, PIL.Image
        >>> from masslib.data import from_arrays
        >>> paths = [pathlib.Path(tempfile.mkdtemp()) / name for name in ("1.png", "2.jpg")]
        >>> for path in paths:
        ...     PIL.Image.new("RGB", (40, 30)).save(path)
        >>> from_arrays({"photo": photos(paths, image_size=(32, 32)), "age": [30, 50]}, [0, 1])
        Subset(2 rows of {'photo': (32, 32, 3), 'age': ()}, {'photo': photos in files, 'age': int64}, labels int64)
    """
    decode = decoder(image_size, channels, resize, max_pixels)
    if isinstance(paths, str | os.PathLike):
        raise TypeError(f"paths is {paths!r}, expected a sequence of paths; for a folder per class: from_directory.")
    paths = list(paths)
    wrong = [row for row, path in enumerate(paths) if not isinstance(path, str | os.PathLike)]
    if wrong:
        raise TypeError(f"paths holds {paths[wrong[0]]!r} in row {wrong[0]}, expected the path of a file.")
    if not paths:
        raise ValueError("paths is empty, expected at least one file.")
    names = [os.fspath(path) for path in paths]
    found = unreadable(Path(), names, decode, on)
    reasons = {row: reason for row, reason in enumerate(found) if reason}
    if reasons:
        told = ", ".join(f"{names[row]} ({reason})" for row, reason in list(reasons.items())[:_TOLD])
        more = ", ..." if len(reasons) > _TOLD else ""
        raise UnreadablePhotos(
            f"{len(reasons)} of {len(names)} photos cannot be read, first in row {next(iter(reasons))}: {told}{more}. "
            "Mend them, or leave their rows out of all fields: .reasons of this error has their numbers.",
            reasons,
        )
    return PhotoRows(Path(), names, decode)


class UnreadablePhotos(ValueError):
    """Files that cannot be read as photos.

    Attributes:
        reasons: row number -> what is wrong with its file.
    """

    def __init__(self, message: str, reasons: dict[int, str]) -> None:
        super().__init__(message, reasons)
        self.reasons = reasons

    def __str__(self) -> str:
        return str(self.args[0])


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
                f"{self._folder / name} was readable when it was checked and is not any more: {error!r}. "
                "Restore it, or make the rows anew, which checks all files."
            ) from error

    def __repr__(self) -> str:
        return "photos in files"


def decoder(image_size: Sequence[int], channels: int, resize: str, max_pixels: int) -> Decoder:
    """Makes a `Decoder` of arguments as `photos` takes them, once they are checked."""
    if not isinstance(image_size, Sequence) or isinstance(image_size, str) or len(image_size) != 2:
        raise TypeError(f"image_size is {image_size!r}, expected (height, width) in pixels, such as (64, 64).")
    size = whole("image_size[0]", image_size[0], 1), whole("image_size[1]", image_size[1], 1)
    if channels not in (1, 3):
        raise ValueError(f"channels is {channels!r}, expected 1 for grey or 3 for colour.")
    if resize not in _RESIZE:
        raise ValueError(f"resize is {resize!r}, expected one of {', '.join(map(repr, _RESIZE))}.")
    return Decoder(size, int(channels), resize, whole("max_pixels", max_pixels, 1))


def unreadable(folder: Path, names: Sequence[str], decode: Decoder, on: Any) -> list[str | None]:
    """For each file the reason why it cannot be used, or None."""
    if on is not None:
        size = max(_LEAST, -(-len(names) // _JOBS))
        jobs = [(folder, names[k : k + size], decode) for k in range(0, len(names), size)]
        return [reason for reasons in mapped(_reasons_of, jobs, on) for reason in reasons]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's doubts about files; what it cannot read is reported
        tries = pool.map(lambda name: _reason(folder / name, decode), names)  # it decodes outside of Python's lock
        return list(progress.bar(tries, title="reading", unit="file", visible=len(names) > _MANY, total=len(names)))


def _reasons_of(job: tuple[Path, list[str], Decoder]) -> list[str | None]:
    folder, names, decode = job
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [_reason(folder / name, decode) for name in names]


def _reason(path: Path, decode: Decoder) -> str | None:
    if path.is_dir():
        return "folder: photos are looked for in the folder of their class alone"
    if not path.is_file():
        return "no file: a broken link or a device"
    try:
        if not path.stat().st_size:
            return "empty"
    except OSError as error:
        return f"unreadable: {error.strerror}"
    return attempt(path, decode)[1]


def attempt(photo: Path | BinaryIO, decode: Decoder) -> tuple[np.ndarray | None, str | None]:
    """Decodes a photo; gives the array, or the reason why there is none."""
    with needed_by("masslib.data.photos"):
        from PIL import Image, UnidentifiedImageError

    try:
        return decode(photo), None
    except UnidentifiedImageError:
        return None, "no PNG or JPEG image"
    except Image.DecompressionBombError:  # beyond Pillow's own limit, before its size is known
        return None, "too large: more than twice PIL.Image.MAX_IMAGE_PIXELS"
    except Unsuitable as error:
        return None, str(error)
    except OSError as error:
        return None, f"unreadable: {error.strerror}" if error.errno else f"damaged: {error}"
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        return None, f"damaged: {type(error).__name__}: {error}"
