"""What the benchmarks share: pinning, taking turns, and saying whether a target was met."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

ROUNDS = 9


def pin(cores: int) -> None:
    """Bind this process to some cores and TensorFlow to as many threads; call it before any TensorFlow operation."""
    available = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, available[:cores])
    tf.config.threading.set_intra_op_parallelism_threads(cores)
    tf.config.threading.set_inter_op_parallelism_threads(cores)
    print(f"pinned to {min(cores, len(available))} core(s)")


class TakingTurns(keras.callbacks.Callback):
    """Times each epoch of a training, and lets the peers run one of their own after it.

    Args:
        peers: Name -> a function that trains one epoch and returns the seconds of it.
    """

    def __init__(self, peers: dict[str, Callable[[], float]]):
        super().__init__()
        self.seconds: list[float] = []
        self.peers, self.peer_seconds = peers, {name: [] for name in peers}

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        seconds = time.perf_counter() - self._start
        others = {name: peer() for name, peer in self.peers.items()}
        if epoch > 0:  # the first epoch traces
            self.seconds.append(seconds)
            for name, value in others.items():
                self.peer_seconds[name].append(value)

    def ratios(self, name: str) -> list[float]:
        """Our seconds over those of a peer, round by round."""
        return [a / b for a, b in zip(self.seconds, self.peer_seconds[name], strict=True)]


class EpochTimer(keras.callbacks.Callback):
    """Seconds of the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.seconds = time.perf_counter() - self._start


def verdict(what: str, ratios: Sequence[float], *, at_most: float | None = None, at_least: float | None = None) -> bool:
    """Print the median ratio with its range beside the target; tell whether it was met."""
    ratio = statistics.median(ratios)
    met = (at_most is None or ratio <= at_most) and (at_least is None or ratio >= at_least)
    target = f"at most {at_most}" if at_most is not None else f"at least {at_least}"
    target = "no target" if at_most is at_least is None else f"target {target}: {'met' if met else 'MISSED'}"
    print(f"{what:<66} {ratio:6.3f} ({min(ratios):.3f} to {max(ratios):.3f}), {target}")
    return met
