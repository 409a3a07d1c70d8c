"""A folder that knows the checksums of its files, and a few facts about them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from masslib._util.files import BLANK_SEAL, MANIFEST, seal, sealed


def write(folder: Path, name: str = MANIFEST, /, **facts: Any) -> Path:
    """Write the SHA-256 and the size of every file in a folder, with some facts, into one file that carries its own.

    Args:
        folder: Where the files lie, at any depth.
        name: Of the manifest, relative to the folder; folders on the way are made.
        **facts: What else it is to say; JSON must hold it.

    Returns:
        The path of the manifest.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "note.txt").write_text("whole")
        >>> _ = write(folder, author="me")
        >>> read(folder)["author"]
        'me'
    """
    path = folder / name
    files = {
        file.relative_to(folder).as_posix(): {"sha256": checksum(file), "bytes": file.stat().st_size}
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file != path
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sealed(path, {**facts, "files": files})
    return path


def read(folder: Path, name: str = MANIFEST) -> dict[str, Any]:
    """Check every file that the manifest names, and return its facts and its `files`.

    Raises:
        ValueError: If the manifest is missing, damaged or of another kind, or a file is missing or was changed; all of
            them are named.
    """
    facts = read_sealed(folder / name)
    files = facts.get("files")
    if not isinstance(files, dict):
        raise ValueError(f"{folder / name} is no manifest of this kind: it names no files; pass the right folder")
    wrong = []
    for file, expected in files.items():
        if not (folder / file).is_file():
            wrong.append(f"{file} is missing")
        elif checksum(folder / file) != expected["sha256"]:
            wrong.append(f"{file} was changed")
    if wrong:
        raise ValueError(f"{folder} is damaged: {', '.join(wrong)}; make or copy it again")
    return facts


def write_sealed(path: Path, facts: Mapping[str, Any]) -> None:
    """Write JSON that carries its own SHA-256."""
    path.write_text(json.dumps({**facts, "seal": BLANK_SEAL.decode()}, indent=1, ensure_ascii=False), encoding="utf-8")
    seal(path)


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what `write_sealed` wrote.

    Raises:
        ValueError: If it is missing, damaged or carries no checksum.
    """
    # An empty file cannot be mapped to look for the seal.
    if not path.is_file() or not path.stat().st_size or not sealed(path):
        raise ValueError(f"{path.parent} holds no whole {path.name}; make or copy the folder again")
    try:
        facts = json.loads(path.read_bytes())
        return {key: value for key, value in facts.items() if key != "seal"}
    except (ValueError, AttributeError) as error:  # a file with a seal that is no manifest
        raise ValueError(f"{path} is no manifest: {error}; make or copy the folder again") from error


def checksum(path: Path) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
