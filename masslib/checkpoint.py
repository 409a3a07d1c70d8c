"""Checkpoints that survive: written whole, sealed by a checksum, falling back to the one before."""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from masslib._util.checks import check_counts
from masslib._util.files import BLANK_SEAL, SealingStream, flush, replacing, sealed
from masslib._util.lock import lock

_PATTERN = "step-*.npz"
_ABOUT, _SEAL, _DTYPES = "about.json", "seal", "dtypes.json"
_LOWEST_PRIORITY = 19


class Checkpoints:
    """The checkpoints of one training run, in a folder that is locked against a second run.

    Each is one `.npz` file of arrays with a description and its own SHA-256 inside; it is written by a thread
    beside the training under a temporary name and then renamed. So the death of the process, at any moment, costs
    nothing that was saved.

    A flush to the disk (fsync) costs more than all the rest of a checkpoint, so only the first, one every
    `flush_seconds`, and the last of a run are flushed. The newest flushed one is kept in addition to `keep`, since a
    power cut may damage those written after it.

    Args:
        folder: Made if absent.
        keep: How many of the newest checkpoints are kept.
        flush_seconds: Seconds between flushes.

    Raises:
        ValueError: If `keep` is below 1.
        RuntimeError: If another run uses the folder.
    """

    def __init__(self, folder: str | os.PathLike[str], *, keep: int = 3, flush_seconds: float = 30.0):
        check_counts(keep=(keep, 1))
        self.folder, self._keep = Path(folder), keep
        self._lock = lock(self.folder)
        self._writer: threading.Thread | None = None
        self._failure: Exception | None = None
        self._flush_seconds = flush_seconds
        self._written: Path | None = None  # the last of this run
        self._flushed: Path | None = None  # the last that is known to be on the disk
        self._flushed_at = -math.inf

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.wait()
            self._flush_last()
        finally:
            self._lock.close()

    def paths(self) -> list[Path]:
        """The checkpoints in the folder, the oldest first."""
        return sorted(self.folder.glob(_PATTERN))

    def save(self, step: int, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
        """Begin to write a checkpoint; return once the one before it is written.

        A write that fails (disk full, folder read-only) warns and leaves the older checkpoints as they are: the
        training goes on.

        Args:
            step: Steps made since the beginning of the training; names the file.
            arrays: The state; the arrays must not change any more.
            about: JSON values: the position in the training and whatever else is needed to go on.
        """
        self.wait()
        path = self.folder / f"step-{step:010d}.npz"
        # Here, where an error reaches the caller, and before the training changes its history
        text = json.dumps(about, default=_listed).encode()
        self._writer = threading.Thread(target=self._write, args=(path, dict(arrays), text))
        self._writer.start()

    def wait(self) -> None:
        """Wait until the checkpoint that was begun is in its place, and warn if it could not be written."""
        if self._writer:
            self._writer.join()
            self._writer = None
        if self._failure:
            failure, self._failure = self._failure, None
            older = self.paths()
            warnings.warn(
                f"a checkpoint could not be written to {self.folder}: {failure}; the training goes on, "
                + (f"the newest checkpoint is {older[-1].name}" if older else "there is no checkpoint"),
                RuntimeWarning,
                stacklevel=3,
            )

    def _write(self, path: Path, arrays: dict[str, np.ndarray], about: bytes) -> None:
        try:
            _yield_to_the_training()
            # NumPy's format keeps the bytes of a bfloat16, and forgets what they are.
            dtypes = {name: str(array.dtype) for name, array in arrays.items() if array.dtype.kind == "V"}
            texts = {_ABOUT: about, _DTYPES: json.dumps(dtypes).encode(), _SEAL: BLANK_SEAL}
            now = time.monotonic()
            # A file that is on the disk is not overwritten by one that may not get there.
            durable = now - self._flushed_at >= self._flush_seconds or path == self._flushed
            with replacing(path, durable=durable) as temporary, open(temporary, "wb") as file:
                stream = SealingStream(file)
                _write_npz(stream, {**arrays, **{name: np.frombuffer(text, np.uint8) for name, text in texts.items()}})
                stream.seal()
            self._written = path
            if durable:
                self._flushed, self._flushed_at = path, now
            self._remove_old()
        except Exception as error:  # `wait` warns of it: an exception in a thread reaches nobody
            self._failure = error

    def _remove_old(self) -> None:
        for old in self.paths()[: -self._keep]:
            if old != self._flushed:
                old.unlink()

    def _flush_last(self) -> None:
        """Bring the last checkpoint of this run to the disk, if there is one."""
        if self._written in (None, self._flushed) or not self._written.exists():
            return
        try:
            flush(self._written)
            self._flushed = self._written
            self._remove_old()
        except OSError as error:
            warnings.warn(
                f"{self._written} may not survive a power cut: {error}; copy it to another disk",
                RuntimeWarning,
                stacklevel=3,
            )

    def newest(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Read the newest checkpoint that is whole; None if the folder holds none.

        A damaged one is reported by a warning, and the one before it is read. The damaged one then gets the suffix
        `.damaged`, so that it is not taken for one of the newest when old ones are removed.

        Raises:
            ValueError: If there are checkpoints and all of them are damaged.
        """
        problems, damaged = [], []
        for path in reversed(self.paths()):
            try:
                found = read(path)
            except (ValueError, OSError) as error:
                problems.append(str(error))
                damaged += [path] if isinstance(error, ValueError) else []
                warnings.warn(f"{error}; the checkpoint before it is used", RuntimeWarning, stacklevel=2)
                continue
            with contextlib.suppress(OSError):  # in a folder that is read-only nothing is removed either
                for other in damaged:
                    other.replace(other.with_suffix(".damaged"))
            return found
        if problems:
            listed = "\n".join(f"  {problem}" for problem in problems)
            raise ValueError(
                f"none of the {len(problems)} checkpoints in {self.folder} can be read:\n{listed}\n"
                "Delete them to start afresh, or name another folder."
            )
        return None


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read one checkpoint: its arrays, and what `save` was told about them.

    Raises:
        ValueError: If the file is damaged.
    """
    try:
        whole = path.stat().st_size > 0 and sealed(path)
        if not whole:
            raise ValueError(f"{path} is no checkpoint: it does not carry a checksum")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name not in (_ABOUT, _SEAL, _DTYPES)}
            for name, dtype in json.loads(file[_DTYPES].tobytes()).items() if _DTYPES in file.files else ():
                arrays[name] = arrays[name].view(dtype)  # a name that NumPy knows once Keras is imported
            return arrays, json.loads(file[_ABOUT].tobytes())
    except (KeyError, EOFError, zipfile.BadZipFile, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _yield_to_the_training() -> None:
    """Give this thread the lowest priority; on Linux a thread has one of its own."""
    # A sandbox may forbid it. The checkpoint is then written all the same, only less considerately.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)


def _listed(value: Any) -> Any:
    """Make numbers and lists of what callbacks have put into the history: arrays, tensors, variables."""
    array = np.asarray(value)
    if array.dtype == object:
        raise TypeError(f"the history has a {type(value).__name__}, which no checkpoint can hold: {value!r}")
    return array.tolist()


def _write_npz(stream: SealingStream, arrays: Mapping[str, np.ndarray]) -> None:
    """Write what `np.savez` writes, uncompressed for the sake of the seal, and without its copies of the arrays."""
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            array = np.asarray(array, order="C")
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array_header_1_0(entry, np.lib.format.header_data_from_array_1_0(array))
                entry.write(array.reshape(-1).view(np.uint8).data)
