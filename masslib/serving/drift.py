"""Counts of what came and what was answered over a window of time, shared by the workers, against the reference."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np

from masslib.packaging.reference import Bins
from masslib.serving.batching import Arrays
from masslib.serving.loaded import Loaded

_SLOTS = 12
_GAP = 0.005
ALARM_PSI = 0.25
"""Above it the world has changed (Siddiqi, 2006)."""
LEAST_ROWS = 300
"""Fewer rows say nothing: with ten bins their PSI is 0.03 by chance alone."""


class Drift:
    """The counts of one version. Every worker writes a file of its own; whoever asks sums them all.

    Args:
        folder: Where the files lie.
        loaded: The version.
        window: Seconds that are looked back on.
    """

    def __init__(self, folder: Path, loaded: Loaded, window: float):
        self._bins: Bins = loaded.bins  # type: ignore[assignment]
        self._inputs = [tensor.name for tensor in loaded.inputs]
        self._outputs = [tensor.name for tensor in loaded.outputs]
        self._folder, self._slot_seconds = folder, window / _SLOTS
        # The reference belongs to the name: a package that takes the place of another starts anew.
        self._name = f"{loaded.name}-{loaded.version}-{loaded.sha256[:12]}"
        self._name = hashlib.sha256(self._name.encode()).hexdigest()[:24]
        self._next = 0.0
        shape = (_SLOTS, 1 + self._bins.size)
        self._own = np.memmap(folder / f"{self._name}.{os.getpid()}", np.int64, "w+", shape=shape)

    def count(self, inputs: Arrays, outputs: Arrays) -> None:
        """Add the rows of a batch, unless one was added a moment ago: under load a sample is enough."""
        if (moment := time.monotonic()) < self._next:
            return
        self._next = moment + _GAP
        slot = self._own[self._now() % _SLOTS]
        if slot[0] != self._now():
            slot[1:], slot[0] = 0, self._now()
        slot[1:] += self._bins.count([inputs[name] for name in self._inputs], [outputs[name] for name in self._outputs])

    def counts(self) -> np.ndarray:
        """Rows per bin over the window, of all workers."""
        now, total = self._now(), np.zeros(self._bins.size, np.int64)
        for path in self._folder.glob(f"{self._name}.*"):
            table = np.fromfile(path, np.int64).reshape(_SLOTS, -1)
            total += table[now - table[:, 0] < _SLOTS, 1:].sum(axis=0)
        return total

    def distances(self) -> dict[str, dict[str, float]]:
        """Feature -> `psi`, `ks` and `rows`; see `Bins.distances`."""
        return self._bins.distances(self.counts())

    def classes(self) -> dict[str, list[int]]:
        """Output of classes -> how often each was answered over the window."""
        counts = self.counts()
        return {name: counts[where].tolist() for name, where in self._bins.classes().items()}

    def _now(self) -> int:
        return int(time.time() / self._slot_seconds)
