"""Files that appear whole or not at all, and that can tell whether they were damaged."""

from __future__ import annotations

import hashlib
import itertools
import json
import mmap
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_MARK = b"masslib:sha256:"
_BLANK = b"0" * 64

SEAL_MARK, BLANK_SEAL = _MARK, _MARK + _BLANK
"""What a seal begins with, and the bytes that a writer places once in its file, for `seal` to fill in."""

MANIFEST, SAVED_MODEL_MANIFEST = "manifest.json", "assets.extra/masslib.json"
"""Where a folder that masslib wrote names its files; TensorFlow Serving passes over what it does not know there."""

_SHOWN = 4


@contextmanager
def replacing(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[Path]:
    """Write a file or folder under a temporary name and move it into place when all went well.

    When the block raises, what stood at `path` before is untouched and the temporary files are gone. Of a link the
    target is replaced. A folder takes the place of an empty one, or of one that masslib wrote and nobody added to.

    Args:
        path: What to replace, or make.
        durable: Whether a file is flushed to the disk, so that it survives a power cut and not just the death of the
            process; `flush` can do it later.

    Raises:
        ValueError: If files of others would be lost, or a file stands where a folder is to be made, or the other way
            round.

    Example:
        >>> import pathlib, tempfile
        >>> target = pathlib.Path(tempfile.mkdtemp()) / "deep" / "note.txt"
        >>> with replacing(target) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    target = Path(os.path.realpath(path))
    _check_folder(target)
    # The suffix stays, because some writers choose the format by it.
    temporary = target.with_name(f".{uuid.uuid4().hex[:8]}-{target.name}")
    try:
        yield temporary
        _move(temporary, target, durable)
    finally:
        _remove(temporary)


def _check_folder(folder: Path) -> None:
    """Raise if a folder holds anything that no manifest of masslib in it names."""
    if not folder.is_dir():
        return
    known = {file for manifest in (MANIFEST, SAVED_MODEL_MANIFEST) for file in _named(folder, manifest)}
    foreign = list(itertools.islice((file for file in _files(folder) if file not in known), _SHOWN + 1))
    if foreign:
        others = " and others" if len(foreign) > _SHOWN else ""
        raise ValueError(
            f"{folder} holds files that masslib did not write, which would be lost: {', '.join(foreign[:_SHOWN])}"
            f"{others}; pass a new or empty folder, or move them away"
        )


def _files(folder: Path) -> Iterator[str]:
    """Everything in a folder that is no folder, links included."""
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in (*files, *links):
            yield Path(place, name).relative_to(folder).as_posix()


def _named(folder: Path, manifest: str) -> set[str]:
    """A manifest and the files that it names; nothing if it is missing or of another program."""
    if not (folder / manifest).is_file():
        return set()
    try:
        facts = json.loads((folder / manifest).read_bytes())
        sealed_by_us = facts["seal"].startswith(_MARK.decode())
        files = {file if isinstance(file, str) else file["name"] for file in facts["files"]}
    except (ValueError, LookupError, TypeError, AttributeError):  # no JSON, or JSON of another shape
        return set()
    return {manifest, *files} if sealed_by_us else set()


def flush(path: Path) -> None:
    """Wait until the content and the name of a file are on the disk."""
    _sync(path)
    _sync(path.parent)


def _move(temporary: Path, target: Path, durable: bool) -> None:
    if target.exists() and temporary.is_dir() != target.is_dir():
        there, wanted = ("folder", "file") if target.is_dir() else ("file", "folder")
        raise ValueError(f"{target} is a {there}, and a {wanted} is to be written; pass another name, or remove it")
    _check_folder(target)  # once more: much may have come since
    if durable and not temporary.is_dir():
        _sync(temporary)
    if temporary.is_dir() and target.exists():
        # A folder cannot be replaced in one step: the old one steps aside first.
        with _aside(target):
            os.rename(temporary, target)
    else:
        os.replace(temporary, target)
    if durable:
        _sync(target.parent)


def _sync(path: Path) -> None:
    """Wait for the disk to have the content of a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _aside(target: Path) -> Iterator[None]:
    """Move `target` aside; put it back when the block raises, remove it when the block succeeds."""
    aside = target.with_name(f".{uuid.uuid4().hex[:8]}-old-{target.name}")
    os.rename(target, aside)
    try:
        yield
    except BaseException:
        os.rename(aside, target)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class SealingStream:
    """A file under construction that hashes what is written to it, and fills in its blank seal at the end.

    It does what `seal` does without reading the file again. It can only be written from front to end, and `BLANK_SEAL`
    has to be written in one piece.

    Args:
        file: Open for writing in binary mode, at its beginning.
    """

    def __init__(self, file: BinaryIO):
        self._file, self._digest = file, hashlib.sha256()
        self._written, self._seal_at = 0, -1

    def write(self, data: bytes | memoryview) -> int:
        """Append bytes and return how many there were."""
        if data == BLANK_SEAL:
            self._seal_at = self._written
        self._digest.update(data)
        self._file.write(data)
        size = memoryview(data).nbytes
        self._written += size
        return size

    def flush(self) -> None:
        """Hand over to the operating system what was written."""
        self._file.flush()

    def seal(self) -> None:
        """Fill in the checksum; nothing can be written after that.

        Raises:
            ValueError: If no blank seal was written.
        """
        if self._seal_at < 0:
            raise ValueError("no blank seal was written, so there is none to fill in")
        self._file.seek(self._seal_at + len(_MARK))
        self._file.write(self._digest.hexdigest().encode())


def seal(path: Path) -> str:
    """Fill the blank seal inside a file with the SHA-256 of the file as it was with the blank one.

    Returns:
        The checksum as 64 hexadecimal digits.

    Raises:
        ValueError: If the file holds no blank seal.
    """
    with open(path, "rb+") as file, mmap.mmap(file.fileno(), 0) as content:
        at = content.rfind(BLANK_SEAL)
        if at < 0:
            raise ValueError(f"{path} holds no blank seal to fill in")
        checksum = hashlib.sha256(content).hexdigest()
        content[at + len(_MARK) : at + len(BLANK_SEAL)] = checksum.encode()
    return checksum


def sealed(path: Path) -> bool:
    """Tell whether a file carries its own checksum; raise `ValueError` when it does not match.

    The file is mapped, not read into memory, whatever its size.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.rfind(_MARK)
        if at < 0:
            return False
        start, end = at + len(_MARK), at + len(BLANK_SEAL)
        found = content[start:end]
        digest = hashlib.sha256()
        with memoryview(content) as view:
            for part in (view[:start], _BLANK, view[end:]):
                digest.update(part)
                if isinstance(part, memoryview):
                    part.release()
    if found != digest.hexdigest().encode():
        raise ValueError(
            f"{path} is damaged: its SHA-256 is {digest.hexdigest()}, the file says "
            f"{found.decode(errors='replace')}; make or copy it again"
        )
    return True
