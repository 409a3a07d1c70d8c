"""A folder that one process uses at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TextIO


def lock(folder: str | os.PathLike[str]) -> TextIO:
    """Claim a folder for this process; it is made if absent.

    Args:
        folder: Gets a file `.lock` that names the owner.

    Returns:
        The open file, for `with` or `.close()`, which give the folder back; so does the end of the process, however
        it ends.

    Raises:
        RuntimeError: If another run uses the folder.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with lock(folder), lock(folder):
        ...     pass
        Traceback (most recent call last):
        RuntimeError: ... is in use by process ...; wait for it to end, or name another folder
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = open(folder / ".lock", "a+", encoding="utf-8")  # noqa: SIM115 - open as long as the lock is to be held
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "another process"
        file.close()
        raise RuntimeError(f"{folder} is in use by {owner}; wait for it to end, or name another folder") from None
    file.truncate(0)
    file.write(f"process {os.getpid()}")
    file.flush()
    return file
