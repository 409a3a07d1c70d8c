"""`load`: data sets by name, found on disk or downloaded, and always checked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from masslib._util.extras import needed_by
from masslib._util.files import replacing
from masslib.data import idx, table
from masslib.data.arrays import from_arrays
from masslib.data.splits import Splits, set_aside
from masslib.data.subset import Subset

_MIRROR = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"  # as keras.datasets
_PROJECT_DATA = Path(__file__).resolve().parents[2] / "data"


@dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes:
        name: of the file.
        url: where it can be downloaded; None for a file that is in the project's `data/` alone.
        sha256: of what is downloaded, in hexadecimal.
        also: SHA-256 of other copies of the same content; gzip's header holds a name and a time that may differ.
    """

    name: str
    url: str | None
    sha256: str
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A data set that `load` knows, or one of your own in the same format.

    Attributes:
        name: also the folder under the project's `data/`.
        classes: names of the classes.
        files: what `read` needs.
        cache: folder under the Keras home (`$KERAS_HOME`, else `~/.keras`).
        read: `(paths, classes)` -> train and official test `Subset` (None if there is no official test set).
        valid: rows (int) or fraction of all rows (float) that `load` sets aside by default.
        test: the same for the test rows; None if the official test set is used.
        finish: what is left to do to the `Splits`, such as what has to be fitted on the training rows alone.
    """

    name: str
    classes: tuple[str, ...]
    files: tuple[File, ...]
    cache: str
    read: Callable[[list[Path], tuple[str, ...]], tuple[Subset, Subset | None]]
    valid: int | float
    test: int | float | None = None
    finish: Callable[[Splits], Splits] | None = None


@needed_by("masslib.data.load")
def load(
    name: str | Entry,
    *,
    folder: str | os.PathLike[str] | None = None,
    valid: int | float | None = None,
    test: int | float | None = None,
    seed: int = 0,
) -> Splits:
    """Loads a data set and splits it, each class in proportion (`sklearn.model_selection.train_test_split`).

    Files are looked for in `folder` if it is given, and only there; else in the project's `data/<name>/`,
    then where `keras.datasets` keeps its downloads; what is in neither is downloaded to that place. Every
    file is checked against its SHA-256.

    Args:
        name: "fashion_mnist" (60,000 + 10,000 images of clothes, 28x28), "mnist" (as many of digits),
            "digits" (1,797 images of digits, 8x8, part of scikit-learn), "adult" (45,222 people of a census, 14
            columns of numbers and categories, encoded as `Splits.columns` names them), or an `Entry`.
        folder: folder that holds the files.
        valid: validation rows: an int, or a fraction of all rows that are not an official test set. By
            default 5000 rows, of "digits" and "adult" 0.1.
        test: test rows, likewise, for data without an official test set. Of "digits" and "adult" 0.2 by default.
        seed: of the split, 0 to 2**32 - 1.

    Returns:
        `Splits` of training, validation and test rows, the same for the same seed.

    Raises:
        TypeError: `valid` or `test` is no number.
        ValueError: unknown name; damaged file; `valid` or `test` out of range; `test` beside an official one.
        FileNotFoundError: a file is in none of the places and could not be downloaded.

    Example:
        >>> load("digits")
        Splits(train=1257, valid=180, test=360, classes=['0', ...])
    """
    entry = name if isinstance(name, Entry) else CATALOG.get(str(name))
    if entry is None:
        raise ValueError(f"name is {name!r}, expected one of {sorted(CATALOG)}; for other data see from_arrays.")
    if test is not None and entry.test is None:
        raise ValueError(f"test is {test!r}, but {entry.name} has an official test set. Leave it out.")
    rest, held_out = entry.read(_paths(entry, folder), entry.classes)
    total = len(rest)
    if held_out is None:
        rest, held_out = set_aside(rest, entry.test if test is None else test, seed=seed, name="test")
    size = entry.valid if valid is None else valid
    train, aside = set_aside(rest, size, seed=seed, name="valid", total=total)
    splits = Splits(train, aside, held_out, list(entry.classes))
    return entry.finish(splits) if entry.finish else splits


def _paths(entry: Entry, folder: str | os.PathLike[str] | None) -> list[Path]:
    """Where the files are, in the order of `entry.files`: found and checked, or downloaded."""
    cache = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / entry.cache
    places = [_PROJECT_DATA / entry.name, cache] if folder is None else [Path(folder)]
    paths: dict[File, Path] = {}
    for file in entry.files:
        for path in (place / file.name for place in places):
            if path.is_file():
                _verify(path, file)
                paths[file] = path
                break
    missing = [file for file in entry.files if file not in paths]
    if missing and (folder is not None or not all(file.url for file in missing)):
        raise FileNotFoundError(_wanted(entry, missing, places[0]))
    try:
        paths |= {file: _download(file, cache) for file in missing}
    except OSError as error:
        message = f"{_wanted(entry, missing, cache)}\nThe download failed: {error}"
        raise FileNotFoundError(message) from error
    return [paths[file] for file in entry.files]


def _verify(path: Path, file: File) -> None:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    known = (file.sha256, *file.also)
    if digest not in known:
        raise ValueError(
            f"{path} is damaged or another file: its SHA-256 is {digest}, expected {' or '.join(known)}. "
            f"Delete it and copy or download it again from {_source(file)}"
        )


def _download(file: File, cache: Path) -> Path:
    import keras

    target = cache / file.name
    # Not under its own name: an interrupted download must not be taken for the file, and other processes may be
    # loading it too.
    with replacing(target) as partial:
        try:
            keras.utils.get_file(partial.name, file.url, cache_subdir=str(cache.absolute()), file_hash=file.sha256)
        except ValueError as error:
            raise ValueError(
                f"{file.url} did not send {file.name} with SHA-256 {file.sha256}: {error} Check the address and "
                f"the network (a login page?), or put the file into {cache} by hand."
            ) from error
        except Exception as error:  # what get_file raises when it cannot fetch is a plain Exception
            raise OSError(str(error)) from error
    return target


def _source(file: File) -> str:
    return file.url or "the repository of masslib, where it is in data/"


def _wanted(entry: Entry, missing: list[File], folder: Path) -> str:
    lines = "".join(f"\n  {file.name} from {_source(file)}" for file in missing)
    return f"{entry.name} is not complete. Put into {folder} (or a folder that you pass as folder=):{lines}"


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
    )
}
