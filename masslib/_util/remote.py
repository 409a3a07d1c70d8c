"""Files in object stores and other places that fsspec knows, sent whole and read through a bounded local cache.

Source: https://filesystem-spec.readthedocs.io/en/latest/api.html
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masslib._util.extras import needed_by
from masslib._util.files import replacing

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
# Here a file appears whole when it is put; elsewhere it is put under another name, and then renamed.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"}
_CHUNK = 1 << 20
_TRIES = 5


def remote_url(folder: str | os.PathLike[str]) -> str | None:
    """The URL that is meant, or None for a path of this machine; `file://` is such a one, see `local_path`.

    Example:
        >>> remote_url("s3://bucket/shards/"), remote_url("file:///tmp"), remote_url("build/shards")
        ('s3://bucket/shards', None, None)
    """
    if not isinstance(folder, str) or not _URL.match(folder) or folder.startswith("file://"):
        return None
    return folder.rstrip("/")


def local_path(folder: str | os.PathLike[str]) -> Path:
    """A path of this machine, of `file://` as well."""
    return Path(folder.removeprefix("file://") if isinstance(folder, str) else folder)


def _at(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    with needed_by(url):
        import fsspec
    return fsspec.core.url_to_fs(url)


def listed(url: str) -> list[str]:
    """The names in a folder; none if there is no such folder."""
    system, path = _at(url)
    system.invalidate_cache()  # others write, too
    try:
        return sorted(posixpath.basename(name.rstrip("/")) for name in system.ls(path, detail=False))
    except FileNotFoundError:
        return []


def send(source: Path, url: str) -> None:
    """Put a file somewhere else, whole or not at all, in the place of an older one."""
    system, path = _at(url)
    kinds = {system.protocol} if isinstance(system.protocol, str) else set(system.protocol)
    if kinds & _OBJECT_STORES:
        system.put_file(str(source), path)
        return
    parent, name = posixpath.split(path)
    system.makedirs(parent, exist_ok=True)
    temporary = f"{parent}/.{uuid.uuid4().hex[:8]}-{name}"
    system.put_file(str(source), temporary)
    if system.exists(path):
        system.rm_file(path)
    system.mv(temporary, path)


def remove(url: str) -> None:
    """Remove a file."""
    system, path = _at(url)
    system.rm_file(path)


def content(url: str) -> bytes:
    """Read a small file.

    Raises:
        FileNotFoundError: If there is none.
    """
    system, path = _at(url)
    return system.cat_file(path)


@dataclass(frozen=True)
class RemoteFile:
    """A file elsewhere, of which a copy is kept here while there is room; it can be sent to other processes.

    Attributes:
        url: Where it lies.
        sha256: What it must hold.
        cache: Folder of the copies, which are named by what they hold; several processes may share it.
        limit: Bytes that they may take together; the one that was just asked for stays, whatever its size.
    """

    url: str
    sha256: str
    cache: Path
    limit: int

    def local(self) -> Path:
        """Return the path of the copy, which is made now if there is none; another process may remove it any time.

        Raises:
            ValueError: If the file is missing there, or does not hold what it must.
        """
        copy = self.cache / self.sha256
        if copy.exists():
            os.utime(copy)  # the least recently used goes first
            return copy
        system, path = _at(self.url)
        digest = hashlib.sha256()
        with replacing(copy, durable=False) as temporary:
            try:
                with system.open(path, "rb") as source, open(temporary, "wb") as target:
                    while chunk := source.read(_CHUNK):
                        digest.update(chunk)
                        target.write(chunk)
            except FileNotFoundError as error:
                raise ValueError(f"{self.url} is missing; copy or write the folder again.") from error
            if digest.hexdigest() != self.sha256:
                raise ValueError(
                    f"{self.url} is damaged or cut short: its SHA-256 is {digest.hexdigest()}, the manifest says "
                    f"{self.sha256}. Copy or write the folder again."
                )
        self._make_room(copy)
        return copy

    def _make_room(self, kept: Path) -> None:
        copies = []
        for path in self.cache.iterdir():
            try:
                copies.append((path.stat(), path))
            except FileNotFoundError:  # removed by another process
                continue
        total = sum(found.st_size for found, _ in copies)
        for found, path in sorted(copies, key=lambda copy: copy[0].st_mtime_ns):
            if total <= self.limit:
                return
            # What is being written has a name that begins with a dot.
            if path != kept and not path.name.startswith("."):
                path.unlink(missing_ok=True)
                total -= found.st_size


def at_hand(file: Path | RemoteFile, use: Any) -> Any:
    """Call a function with the path of a file, which is fetched again if its copy was removed meanwhile."""
    if isinstance(file, Path):
        return use(file)
    for _ in range(_TRIES - 1):
        try:
            return use(file.local())
        except FileNotFoundError:
            continue
    return use(file.local())
