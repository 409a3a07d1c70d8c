"""Where the files of the data sets that `load` knows are: found, or downloaded, and always checked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from masslib._util.files import replacing
from masslib.data.splits import Splits
from masslib.data.subset import Subset

_PROJECT_DATA = Path(__file__).resolve().parents[2] / "data"
_HOME = "MASSLIB_DATA"

Columns: TypeAlias = Mapping[str, np.ndarray | Sequence[Any]]


@dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes:
        name: of the file, with the folder under `$MASSLIB_DATA` and the cache if it lies in one.
        url: where it can be downloaded; None for a file that cannot.
        sha256: of what is downloaded, in hexadecimal; None where the rows are checked instead (`Entry.sha256`).
        also: SHA-256 of other copies of the same content; gzip's header holds a name and a time that may differ.
        origin: where a file without `url` comes from.
    """

    name: str
    url: str | None
    sha256: str | None = None
    also: tuple[str, ...] = ()
    origin: str = "the repository of masslib, where it is in data/"


@dataclass(frozen=True)
class Form:
    """One of the forms in which a data set is stored: the files as published, or a smaller copy of the same rows.

    Attributes:
        files: what `read` needs.
        read: paths of the files, in their order -> columns by name, the same from every form.
    """

    files: tuple[File, ...]
    read: Callable[[list[Path]], Columns]


@dataclass(frozen=True)
class Entry:
    """A data set that `load` knows, or one of your own in the same format.

    Attributes:
        name: also the folder under the project's `data/`.
        classes: names of the classes; none if `read` finds them, or if there are none.
        files: what `read` needs.
        cache: folder under the Keras home (`$KERAS_HOME`, else `~/.keras`).
        read: `(paths, classes)` -> train and official test `Subset` (None if there is no official test set); of three,
            that in the middle is the official validation set. With `forms` it gets the columns instead of paths.
        valid: rows (int) or fraction of all rows (float) that `load` sets aside by default; None if the official
            validation set is used.
        test: the same for the test rows; None if the official test set is used.
        finish: what is left to do to the `Splits`, such as what has to be fitted on the training rows alone.
        forms: the forms of files in which the rows may be stored, instead of `files`; the last one is downloaded.
        sha256: of the columns that each form gives, see `sources.fingerprint`.
        by: how rows are set aside: "groups" for whole groups (`Subset.groups`), else the name of the input that tells
            when each row was, the latest for the test; None for each class in proportion.
    """

    name: str
    classes: tuple[str, ...]
    files: tuple[File, ...]
    cache: str
    read: Callable[[Any, tuple[str, ...]], tuple[Subset | None, ...]]
    valid: int | float | None
    test: int | float | None = None
    finish: Callable[[Splits], Splits] | None = None
    forms: tuple[Form, ...] = ()
    sha256: str | None = None
    by: str | None = None

    @property
    def stored(self) -> tuple[Form, ...]:
        """`forms`, or `files` as the only one."""
        return self.forms or (Form(self.files, list),)


def located(
    name: str, forms: Sequence[Form], cache: str, folder: str | os.PathLike[str] | None
) -> tuple[Form, list[Path]]:
    """The first form whose files are all at hand, checked; else the last one, downloaded.

    Args:
        name: of the data set, also its folder under the project's `data/`.
        forms: what is looked for, in this order.
        cache: folder under the Keras home (`$KERAS_HOME`, else `~/.keras`), where downloads are kept.
        folder: the only place to look in, or None for the project's `data/`, `$MASSLIB_DATA` and the cache.

    Returns:
        The form, and where its files are.

    Raises:
        FileNotFoundError: no form is complete, and the last one cannot be downloaded.
        ValueError: a file is damaged.
    """
    places, store = _places(name, cache, folder)
    for form in forms:
        paths = {file: path for file in form.files if (path := _found(file, places))}
        if len(paths) == len(form.files):
            return form, [paths[file] for file in form.files]
    missing = [file for file in form.files if file not in paths]
    if folder is not None or not all(file.url for file in missing):
        raise FileNotFoundError(_wanted(name, forms, missing, places[-2] if folder is None else places[0]))
    try:
        paths |= {file: _download(file, store) for file in missing}
    except OSError as error:
        message = f"{_wanted(name, forms, missing, store)}\nThe download failed: {error}"
        raise FileNotFoundError(message) from error
    return form, [paths[file] for file in form.files]


def is_at_hand(entry: Entry) -> bool:
    """Whether `load` would find all files of one form without a download. Checksums are not looked at.

    Example:
        >>> from masslib.data.catalog import CATALOG
        >>> is_at_hand(CATALOG["digits"])
        True
    """
    places, _ = _places(entry.name, entry.cache, None)
    return any(all(_path(file, places) for file in form.files) for form in entry.stored)


def checked(name: str, columns: Columns, sha256: str | None) -> Columns:
    """The columns, whose values have this checksum (see `fingerprint`).

    Raises:
        ValueError: they have another one.
    """
    found = fingerprint(columns)
    if found != sha256:
        raise ValueError(
            f"the rows of {name} are damaged or another edition: their SHA-256 is {found}, expected {sha256}. Delete "
            "its files and copy or download them again."
        )
    return columns


def fingerprint(columns: Columns) -> str:
    """SHA-256 of the values of all columns, the same however the files that held them were packed.

    Encoded photos are left out: their bytes differ between versions of the encoder. A zip has checksums of its own.

    Example:
        >>> fingerprint({"word": ["a"], "number": np.array([1])})[:8]
        'fbc95b53'
    """
    digest = hashlib.sha256()
    for name in sorted(columns):
        values = columns[name]
        if isinstance(values[0], bytes):
            continue
        if isinstance(values, np.ndarray):
            data = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
        else:
            data = "\0".join(values).encode()
        digest.update(f"{name} {len(values)} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()


def _places(name: str, cache: str, folder: str | os.PathLike[str] | None) -> tuple[list[Path], Path]:
    """Where files are looked for, in this order, and where downloads go."""
    store = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / cache
    home = [Path(os.environ[_HOME])] if os.environ.get(_HOME) else []
    return [_PROJECT_DATA / name, *home, store] if folder is None else [Path(folder)], store


def _path(file: File, places: Sequence[Path]) -> Path | None:
    paths = (path for place in places for path in (place / file.name, place / Path(file.name).name))
    return next((path for path in paths if path.is_file()), None)


def _found(file: File, places: Sequence[Path]) -> Path | None:
    path = _path(file, places)
    if path:
        _verify(path, file)
    return path


def _verify(path: Path, file: File) -> None:
    if file.sha256 is None:
        return
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    known = (file.sha256, *file.also)
    if digest not in known:
        raise ValueError(
            f"{path} is damaged or another file: its SHA-256 is {digest}, expected {' or '.join(known)}. "
            f"Delete it and copy or download it again from {file.url or file.origin}"
        )


def _download(file: File, cache: Path) -> Path:
    import keras

    target = cache / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not under its own name: an interrupted download must not be taken for the file, and other processes may be
    # loading it too.
    with replacing(target) as partial:
        try:
            keras.utils.get_file(
                partial.name, file.url, cache_subdir=str(partial.parent.absolute()), file_hash=file.sha256
            )
        except ValueError as error:
            raise ValueError(
                f"{file.url} did not send {file.name} with SHA-256 {file.sha256}: {error} Check the address and "
                f"the network (a login page?), or put the file into {cache} by hand."
            ) from error
        except Exception as error:  # what get_file raises when it cannot fetch is a plain Exception
            raise OSError(str(error)) from error
    return target


def _wanted(name: str, forms: Sequence[Form], missing: list[File], folder: Path) -> str:
    lines = "".join(f"\n  {file.name} from {file.url or file.origin}" for file in missing)
    others = [" and ".join(file.name for file in form.files) for form in forms[:-1]]
    other = f"\nInstead of them it can be {', or '.join(others)}." if others else ""
    return f"{name} is not complete. Put into {folder} (or a folder that you pass as folder=):{lines}{other}"
