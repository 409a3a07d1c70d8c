"""`from_directory`: a folder of photos, one sub-folder for each class, with a report on what cannot be read."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from masslib.data.photos import PhotoRows, decoder, unreadable
from masslib.data.splits import Splits, set_aside
from masslib.data.subset import Subset

_PARTS = 3  # train, valid, test: each needs a photo of every class


def from_directory(
    folder: str | os.PathLike[str],
    *,
    image_size: tuple[int, int],
    channels: int = 3,
    resize: str = "stretch",
    valid: int | float = 0.1,
    test: int | float = 0.2,
    seed: int = 0,
    max_pixels: int = 64_000_000,
    on: Any = None,
) -> Splits:
    """Makes `Splits` of photos (PNG, JPEG) that lie in one folder per class, each class in proportion.

    The classes are the sorted names of the sub-folders. Every file is decoded once to see whether it can be
    read; what cannot is left out, counted in a warning and listed in `Splits.skipped`. Photos stay files: they are
    decoded (by Pillow, in any colour mode), resized and scaled to [0, 1] whenever they are read. Names that begin
    with a dot are passed over.

    Args:
        folder: the folder of the class folders.
        image_size: height and width that all photos get, in pixels.
        channels: 1 for grey, 3 for colour.
        resize: "stretch" gives up the proportions (as Keras does by default), "crop" cuts the middle out, "pad"
            adds black bars.
        valid: validation rows: an int, or a fraction of all rows. By default, 7 in 10 rows are left to train.
        test: test rows, likewise.
        seed: of the split, 0 to 2**32 - 1.
        max_pixels: photos with more pixels are not decoded, whatever their size in bytes.
        on: who looks at the files: None for threads of this process, or as in `write_shards`; others must find the
            folder under this name.

    Returns:
        `Splits`, its `skipped` being a dict from the file, as "class/name", to the reason.

    Raises:
        TypeError: a number of the wrong type.
        ValueError: `folder` is no folder of class folders; a class has fewer than three readable photos; an
            argument is out of range.

    Example:
        >>> import pathlib, tempfile, PIL.Image
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("cat/1.png", "cat/2.png", "cat/3.png", "dog/1.jpg", "dog/2.jpg", "dog/3.jpg"):
        ...     (folder / name).parent.mkdir(exist_ok=True)
        ...     PIL.Image.new("RGB", (40, 30)).save(folder / name)
        >>> from_directory(folder, image_size=(32, 32), valid=2, test=2).train
        Subset(2 rows of (32, 32, 3), photos in files, labels int32, 2 classes)
    """
    folder, decode = Path(folder), decoder(image_size, channels, resize, max_pixels)
    classes = _classes(folder)
    names = [f"{name}/{file}" for name in classes for file in _listed(folder / name)]
    reasons = unreadable(folder, names, decode, on)
    skipped = {name: reason for name, reason in zip(names, reasons, strict=True) if reason}
    if skipped:
        warnings.warn(summary(folder, len(names), skipped), stacklevel=2)
    kept = [name for name in names if name not in skipped]
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[name.partition("/")[0]] for name in kept], np.int32)
    _check_counts(folder, classes, labels, skipped)
    photos = Subset(PhotoRows(folder, kept, decode), labels, classes)
    rest, held_out = set_aside(photos, test, seed=seed, name="test")
    train, aside = set_aside(rest, valid, seed=seed, name="valid", total=len(photos))
    return Splits(train, aside, held_out, classes, skipped=skipped)


def _listed(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def _classes(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; expected one that holds a folder of photos for each class.")
    classes = [name for name in _listed(folder) if (folder / name).is_dir()]
    if not classes:
        raise ValueError(
            f"{folder} has no sub-folders; expected one for each class, such as {folder / 'cat'} and {folder / 'dog'}."
        )
    return classes


def summary(place: Path | str, total: int, skipped: dict[str, str], what: str = "files") -> str:
    """Counts what was skipped, by the kind of reason."""
    kinds = Counter(reason.partition(":")[0] for reason in skipped.values())
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return f"{len(skipped)} of {total} {what} in {place} are skipped ({counts}); .skipped of the result tells why."


def _check_counts(folder: Path, classes: list[str], labels: np.ndarray, skipped: dict[str, str]) -> None:
    counts = np.bincount(labels, minlength=len(classes))
    for name, count in zip(classes, counts, strict=True):
        if count < _PARTS:
            lost = [f"{file} ({reason})" for file, reason in skipped.items() if file.startswith(f"{name}/")]
            more = f" Skipped there: {', '.join(lost[:5])}{', ...' if len(lost) > 5 else ''}." if lost else ""
            raise ValueError(
                f"class folder {folder / name} holds {count} readable photos, expected at least {_PARTS}: one each to "
                f"train, validate and test. Add photos or remove the folder.{more}"
            )
