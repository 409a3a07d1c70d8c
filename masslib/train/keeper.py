"""One checkpoint of all processes: the chief writes and reads the files, the others get what it has read."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from masslib.checkpoint import Checkpoints
from masslib.train.replicas import Replicas

_ABOUT = "about.json"


class Keeper:
    """The checkpoints of a training of one or several processes, of which only the chief touches the folder.

    So the workers need no common file system, and never write into the same file. The methods are collective.
    """

    def __init__(self, folder: str | os.PathLike[str], checkpoints: Checkpoints | None, replicas: Replicas):
        self.folder = Path(folder)
        self._checkpoints, self._replicas = checkpoints, replicas

    def newest(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Read the newest whole checkpoint, the same on all processes; None if there is none."""
        found = self._checkpoints.newest() if self._checkpoints else None
        if self._replicas.workers == 1:
            return found
        content = self._replicas.broadcast(_packed(*found) if found else b"")
        return _unpacked(content) if content else None

    def save(self, step: int, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
        """Begin to write a checkpoint."""
        if self._checkpoints:
            self._checkpoints.save(step, arrays, about)

    def wait(self) -> None:
        """Wait until the checkpoint that was begun is in its place."""
        if self._checkpoints:
            self._checkpoints.wait()
        self._replicas.agree()


@contextmanager
def keeper(
    folder: str | os.PathLike[str] | None, replicas: Replicas, *, keep: int, resume: bool
) -> Iterator[Keeper | None]:
    """Open a folder of checkpoints for the time of a training; None is no folder.

    Raises:
        ValueError: If it holds checkpoints that are not to be resumed.
        RuntimeError: If another training uses it.
    """
    if folder is None:
        yield None
        return
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(folder, keep=keep)) if replicas.is_chief else None
        if checkpoints and checkpoints.paths() and not resume:
            raise ValueError(f"{folder} holds checkpoints and resume=False; delete them or name another folder")
        yield Keeper(folder, checkpoints, replicas)


def _packed(arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays, **{_ABOUT: np.frombuffer(json.dumps(about).encode(), "uint8")})
    return stream.getvalue()


def _unpacked(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files if name != _ABOUT}
        return arrays, json.loads(file[_ABOUT].tobytes())
