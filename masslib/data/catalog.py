"""`load`: data sets by name, found on disk or downloaded, and always checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from masslib._util.extras import needed_by
from masslib.data import idx, photo_sets, rating_sets, sound_sets, table, text_sets
from masslib.data._split import parts
from masslib.data.arrays import from_arrays
from masslib.data.sources import Entry, File, checked, located
from masslib.data.splits import Splits, set_aside
from masslib.data.subset import Subset

_MIRROR = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"  # as keras.datasets


@needed_by("masslib.data.load")
def load(
    name: str | Entry,
    *,
    folder: str | os.PathLike[str] | None = None,
    valid: int | float | None = None,
    test: int | float | None = None,
    seed: int = 0,
    image_size: tuple[int, int] | None = None,
) -> Splits:
    """Loads a data set and splits it, each class in proportion (`sklearn.model_selection.train_test_split`).

    Files are looked for in `folder` if it is given, and only there; else in the project's `data/<name>/`, then in the
    folder that the environment variable `MASSLIB_DATA` names, then where `keras.datasets` keeps its downloads; what
    is in none is downloaded to that place. Files, or the rows in them, are checked against their SHA-256. What each
    set holds, its licence and whom to name: docs/datasets.md.

    Args:
        name: "fashion_mnist" (60,000 + 10,000 images of clothes, 28x28), "mnist" (as many of digits),
            "digits" (1,797 images of digits, 8x8, part of scikit-learn), "adult" (45,222 people of a census, 14
            columns of numbers and categories, encoded as `Splits.columns` names them); photos of 96x96, with the
            person who took each in `Subset.groups` and nobody on two sides: "flowers" (3,626 photos of 5 classes),
            "clothing" (4,514 of the 10 largest classes), "garden" (both, 8,722: flowers are wanted, clothing is
            not); strings: "sms_spam" (5,574 messages, ham or spam), "intents" (22,500 requests to an assistant, 150
            classes) and "intents_out_of_scope" (1,200 that are none of them); "shakespeare" (1,115,394 characters,
            each with the one behind it; the last tenth is both validation and test); "cmudict" (132,271 pronunciations
            of 123,874 words, phonemes padded with 0, the word in `Subset.groups`); "spoken_digits" (3,000
            waveforms of varying length at 8 kHz, the speaker in `Subset.groups`; "0" to "9"); "movietweetings" (a dict
            of user, movie, time and genres for 100,000 ratings, split by time); or an `Entry`.
        folder: folder that holds the files.
        valid: validation rows: an int, or a fraction of all rows that are not an official test set. By
            default 5000 rows of "fashion_mnist" and "mnist", 0.05 of "cmudict", 0.1 of the others; "intents" and
            "shakespeare" have an official validation set.
        test: test rows, likewise, for data without an official test set. Of "digits", "adult" and
            "movietweetings" 0.2 by default, of "cmudict" 0.1.
        seed: of the split, 0 to 2**32 - 1.
        image_size: of photos, another height and width than 96 x 96; they are decoded to it.

    Returns:
        `Splits` of training, validation and test rows, the same for the same seed.

    Raises:
        TypeError: `valid` or `test` is no number.
        ValueError: unknown name; damaged file; `valid` or `test` out of range, or beside an
            official one; `image_size` of rows that are no photos.
        FileNotFoundError: a file is in none of the places and could not be downloaded.

    Example:
        >>> load("digits")
        Splits(train=1257, valid=180, test=360, classes=['0', ...])
    """
    entry = name if isinstance(name, Entry) else CATALOG.get(str(name))
    if entry is None:
        raise ValueError(f"name is {name!r}, expected one of {sorted(CATALOG)}; for other data see from_arrays.")
    for what, size, own in (("test", test, entry.test), ("valid", valid, entry.valid)):
        if size is not None and own is None:
            official = "validation" if what == "valid" else "test"
            raise ValueError(f"{what} is {size!r}, but {entry.name} has an official {official} set. Leave it out.")
    rest, *aside, held_out = entry.read(_content(entry, folder), entry.classes)
    total = len(rest)
    if held_out is None:
        rest, held_out = _set_aside(entry, rest, "test", entry.test if test is None else test, seed, total)
    if not aside:
        rest, *aside = _set_aside(entry, rest, "valid", entry.valid if valid is None else valid, seed, total)
    sides = [part if image_size is None else photo_sets.resized(part, image_size) for part in (rest, *aside, held_out)]
    splits = Splits(*sides, list(entry.classes) or rest.classes)
    return entry.finish(splits) if entry.finish else splits


def _content(entry: Entry, folder: str | os.PathLike[str] | None) -> Any:
    """What `Entry.read` gets: paths of files, or columns, checked."""
    form, paths = located(entry.name, entry.stored, entry.cache, folder)
    if not entry.forms:
        return paths
    try:
        columns = form.read(paths)
    except Exception as error:  # a damaged file, or a login page instead of it, makes readers raise almost anything
        names = " and ".join(map(str, paths))
        raise ValueError(
            f"{entry.name} cannot be read: {error}. Delete {names} and copy or download them again."
        ) from error
    return checked(entry.name, columns, entry.sha256)


def _set_aside(entry: Entry, rest: Subset, what: str, size: Any, seed: int, total: int) -> tuple[Subset, Subset]:
    """The rest, and the rows set aside: by time, by groups, or each class in proportion."""
    if entry.by is None:
        return set_aside(rest, size, seed=seed, name=what, total=total)
    by = {"groups": rest.groups} if entry.by == "groups" else {"time": entry.by}
    aside, rest = parts(rest, {what: size}, **by, seed=seed, total=total)
    return rest, aside


def _read_idx(paths: list[Path], classes: tuple[str, ...]) -> tuple[Subset, Subset]:
    pairs = (idx.read_pair(*paths[k : k + 2], classes=len(classes)) for k in (0, 2))
    train, test = (_grey(x, y, classes) for x, y in pairs)
    return train, test


def _read_npz(paths: list[Path], classes: tuple[str, ...]) -> tuple[Subset, Subset]:
    with np.load(paths[0], allow_pickle=False) as arrays:
        train, test = (_grey(arrays[f"x_{part}"], arrays[f"y_{part}"], classes) for part in ("train", "test"))
    return train, test


def _read_digits(paths: list[Path], classes: tuple[str, ...]) -> tuple[Subset, None]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return _grey(digits.images.astype(np.uint8), digits.target, classes, scale=1 / 16), None


def _grey(images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], scale: float | None = None) -> Subset:
    """A `Subset` of images `(n, h, w)`, which get the axis of their one channel."""
    return from_arrays(images[..., np.newaxis], labels.astype(np.int32), classes=classes, scale=scale)


def _read_adult(paths: list[Path], classes: tuple[str, ...]) -> tuple[Subset, None]:
    import pandas

    # This copy of the table has no "?", the original does.
    return table.table(pandas.read_csv(paths[0], na_values="?"), "income", classes), None


def _encode_adult(splits: Splits) -> Splits:
    return table.encoded(splits, _ADULT_COLUMNS, _ADULT_NUMERIC)


_CLOTHES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
_DIGITS = tuple("0123456789")
# The files of Zalando Research, which Keras serves; then the copies in data/, without the name and time in gzip's
# header.
_FASHION_MNIST = {
    "train-images-idx3-ubyte.gz": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    ),
    "train-labels-idx1-ubyte.gz": (
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    ),
    "t10k-images-idx3-ubyte.gz": (
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    ),
}
_MNIST = {"mnist.npz": ("731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",)}


_ADULT = File("adult.csv.gz", None, "9607a1667ca6661e26034e2147fa3b4f04731224e597b330ecf645abbf4f52b6")
_ADULT_NUMERIC = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
_ADULT_COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship"),
    *("race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country"),
)


def _files(checksums: dict[str, tuple[str, ...]]) -> tuple[File, ...]:
    return tuple(File(name, _MIRROR + name, sha256, tuple(also)) for name, (sha256, *also) in checksums.items())


CATALOG = {
    entry.name: entry
    for entry in (
        Entry(
            "fashion_mnist",
            tuple(_CLOTHES.split(",")),
            _files(_FASHION_MNIST),
            "datasets/fashion-mnist",
            _read_idx,
            5000,
        ),
        Entry("mnist", _DIGITS, _files(_MNIST), "datasets", _read_npz, 5000),
        Entry("digits", _DIGITS, (), "datasets", _read_digits, 0.1, 0.2),
        Entry("adult", ("<=50K", ">50K"), (_ADULT,), "datasets/adult", _read_adult, 0.1, 0.2, _encode_adult),
        *(*photo_sets.ENTRIES, *text_sets.ENTRIES, *sound_sets.ENTRIES, *rating_sets.ENTRIES),
    )
}
