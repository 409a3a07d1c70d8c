"""Shards in object stores and other places with a URL."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from masslib._util.manifest import write_sealed
from masslib._util.mapping import mapped
from masslib._util.remote import content, listed, remove, send
from masslib.data.shard_files import MANIFEST, OURS, description_of, jobs_of, manifest_of, write_shard
from masslib.data.subset import Subset


def write_remote(subset: Subset, url: str, shards: int, on: Any) -> str:
    """Writes shards at a URL; see `write_shards`."""
    there = listed(url)
    foreign = [name for name in there if not OURS.fullmatch(name.split("-", 1)[-1] if name[0] == "." else name)]
    if foreign:
        raise ValueError(f"{url} holds other things than shards, such as {foreign[0]}; expected a new folder.")
    if MANIFEST in there:
        remove(f"{url}/{MANIFEST}")
    files = [file for written in mapped(_send_shard, jobs_of(subset, shards, url), on) for file in written]
    for name in set(listed(url)) - {file["name"] for file in files}:
        remove(f"{url}/{name}")
    with tempfile.TemporaryDirectory() as temporary:
        manifest = Path(temporary) / MANIFEST
        write_sealed(manifest, description_of(subset) | {"files": files})
        send(manifest, f"{url}/{MANIFEST}")
    return url


def _send_shard(job: tuple[Subset, str]) -> list[dict[str, Any]]:
    subset, url = job
    place, _, name = url.rpartition("/")
    with tempfile.TemporaryDirectory() as temporary:
        files = write_shard((subset, f"{temporary}/{name}"))
        for file in files:
            send(Path(temporary) / file["name"], f"{place}/{file['name']}")
    return files


def remote_manifest(url: str) -> dict[str, Any]:
    """Reads the manifest of shards at a URL.

    Raises:
        ValueError: it is missing, damaged or of something else.
    """
    with tempfile.TemporaryDirectory() as temporary:
        try:
            (Path(temporary) / MANIFEST).write_bytes(content(f"{url}/{MANIFEST}"))
        except FileNotFoundError as error:
            raise ValueError(f"{url} holds no {MANIFEST}; write the folder again, or to its end.") from error
        manifest = manifest_of(Path(temporary))
    for file in manifest["files"]:  # its names become those of files here
        if not OURS.fullmatch(file["name"]) or not re.fullmatch("[0-9a-f]{64}", file["sha256"]):
            raise ValueError(f"{url}/{MANIFEST} names {file['name']!r}, which is no shard; write the folder again.")
    return manifest
