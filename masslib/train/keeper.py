"""Checkpoints of several processes: the chief reads and writes the files, and sends the others what it has read."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from masslib.checkpoint import Checkpoints
from masslib.train.replicas import Replicas
from masslib.train.workers import WorkerGoneError


class Keeper:
    """The checkpoints of a training with one or more processes, of which only the chief accesses the folder.

    So the workers need no shared file system, and never write to the same file. The methods are collective.
    """

    def __init__(self, folder: str | os.PathLike[str], checkpoints: Checkpoints | None, replicas: Replicas):
        self.folder = Path(folder)
        self._checkpoints, self._replicas = checkpoints, replicas

    def newest(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Read the newest undamaged checkpoint, the same on all processes; None if there is none."""
        with _failing_together(self._replicas):
            found = self._checkpoints.newest() if self._checkpoints else None
        if self._replicas.workers == 1:
            return found
        arrays, about = found or ({}, None)
        forms = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
        forms, about = json.loads(self._replicas.broadcast(json.dumps([forms, about]).encode()))
        content = self._replicas.broadcast(b"".join(array.tobytes() for array in arrays.values()))
        return (_cut(content, forms), about) if about is not None else None

    def save(self, step: int, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
        """Start to write a checkpoint in the background."""
        if self._checkpoints:
            self._checkpoints.save(step, arrays, about)

    def wait(self) -> None:
        """Wait until the last checkpoint is written."""
        if self._checkpoints:
            self._checkpoints.wait()
        self._replicas.agree()


@contextmanager
def keeper(
    folder: str | os.PathLike[str] | None, replicas: Replicas, *, keep: int, resume: bool
) -> Iterator[Keeper | None]:
    """Open a folder of checkpoints for the duration of a training; None if there is no folder.

    Raises:
        ValueError: If it holds checkpoints and `resume` is False.
        RuntimeError: If another training uses it.
    """
    if folder is None:
        yield None
        return
    with contextlib.ExitStack() as stack:
        with _failing_together(replicas):
            checkpoints = stack.enter_context(Checkpoints(folder, keep=keep)) if replicas.is_chief else None
            if checkpoints and checkpoints.paths() and not resume:
                raise ValueError(f"{folder} holds checkpoints and resume=False; delete them or name another folder")
        yield Keeper(folder, checkpoints, replicas)


@contextmanager
def _failing_together(replicas: Replicas) -> Iterator[None]:
    """Let what fails on the chief end all processes, which would wait for it otherwise. Collective."""
    try:
        yield
    except Exception as error:
        replicas.broadcast(str(error).encode() or b"an error")
        raise
    if problem := replicas.broadcast(b""):
        raise WorkerGoneError(f"worker 0 cannot go on: {problem.decode()}")


def _cut(content: bytes, forms: Mapping[str, tuple[Sequence[int], str]]) -> dict[str, np.ndarray]:
    """Cut bytes into arrays, each of a shape and a dtype."""
    arrays, start = {}, 0
    for name, (shape, dtype) in forms.items():
        arrays[name] = np.frombuffer(content, dtype, math.prod(shape), start).reshape(shape)
        start += arrays[name].nbytes
    return arrays
