"""TFLite files that were packed: unpacked into memory, never onto the disk, and checked as the others are."""

from __future__ import annotations

from pathlib import Path

from masslib.runtime.trial import check_bytes, check_tflite

SUFFIX = ".packed"


def checked(path: Path) -> bytes | None:
    """Check a TFLite file; of a packed one return the bytes of the TFLite file in it, else None.

    Raises:
        ValueError: If it is damaged, or no TFLite file.
    """
    if path.suffix != SUFFIX:
        check_tflite(path)
        return None
    from masslib.runtime.packed import unpack  # not for those who load a plain file

    try:
        content = unpack(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} cannot be unpacked: {error}") from error
    check_bytes(content, path)
    return content
