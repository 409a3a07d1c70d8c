"""The steps of an epoch, many in one call of the host."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from masslib.train.feed import Feed
from masslib.train.replicas import Replicas
from masslib.train.resume import Journal
from masslib.train.validation import plain
from masslib.train.workers import TERMINATED, Termination

if TYPE_CHECKING:
    import keras

# Steps that run inside one call of a tf.function. The host's share of a small step is larger than the step
# itself: an MLP at batch 32 trained 2.9 times faster with 100 steps per call than with one.
_STEPS_PER_CALL = 50
# Workers can only end together between two calls, and have to within 5 s.
_MOST_SECONDS = 1.0


@dataclass
class Epoch:
    """Runs the steps of one epoch, those that are left of it."""

    model: keras.Model
    source: Feed
    watchers: keras.callbacks.CallbackList
    run_steps: Callable
    journal: Journal
    replicas: Replicas
    termination: Termination
    per_call: int
    save_every: int | None
    on_nan: str
    _in_time: int = 2**31 - 1

    def run(self) -> dict[str, Any]:
        """Train to the end of the epoch, or until the training is to stop; return the logs. Collective."""
        model, journal, steps = self.model, self.journal, self.source.steps
        logs: dict[str, Any] = {}
        if journal.step == 0:
            model.reset_metrics()
        iterator = self.source.start(journal.epoch, journal.step)
        while steps is None or journal.step < steps:
            self.watchers.on_train_batch_begin(journal.step)
            count = self._count()
            start = time.monotonic()
            result = self.run_steps(iterator, count)
            if result is None:
                break
            logs = plain(result)
            journal.advance(count)
            self.watchers.on_train_batch_end(journal.step - 1, logs)
            if self.on_nan != "ignore" and journal.lost(logs, restore=self.on_nan == "restore"):
                model.stop_training = True
            elif self.save_every and journal.total % self.save_every == 0 and journal.step != steps:
                journal.save()
            self._agree(count, time.monotonic() - start)
            if model.stop_training:  # asked here alone, as in Keras, where all workers have agreed on it
                break
        journal.check_progress(model.stop_training)
        journal.average()
        if model.loss is None:  # what train_step returned is all there is
            return logs
        metrics = plain(model.get_metrics_result())
        return metrics if metrics.keys() >= logs.keys() else logs

    def _agree(self, count: int, seconds: float) -> None:
        """Let several workers end together, and come to the next agreement in time.

        Raises:
            SystemExit: If one of them was told to terminate; there is a checkpoint then.
        """
        if self.replicas.workers == 1:
            return
        in_time = max(1, int(count * _MOST_SECONDS / seconds))
        flags = self.termination.asked, bool(self.model.stop_training)
        (end, self.model.stop_training), self._in_time = self.replicas.agree(*flags, count=in_time)
        if end:
            self.journal.save()
            self.journal.wait()
            raise SystemExit(TERMINATED)

    def _count(self) -> int:
        """How many steps the next call runs: not beyond the epoch, nor beyond the next checkpoint."""
        if self.source.steps is None:
            return 1
        count = min(self.per_call, self._in_time, self.source.steps - self.journal.step)
        return min(count, self.save_every - self.journal.total % self.save_every) if self.save_every else count


def steps_per_call(model: keras.Model, callbacks: Sequence[keras.callbacks.Callback]) -> int:
    """How many train steps one call of the host runs; callbacks that look at every batch need one."""
    if model.run_eagerly:
        return 1
    hooks = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    watching = any(_has(callback, hook) for callback in callbacks for hook in hooks)
    return model.steps_per_execution if watching or model.steps_per_execution > 1 else _STEPS_PER_CALL


def _has(callback: keras.callbacks.Callback, hook: str) -> bool:
    """Whether a callback of the user's has something to do at every batch; LambdaCallback keeps it in the instance."""
    import keras

    if hook in vars(callback):
        return True
    own = not type(callback).__module__.startswith("keras.")
    return own and getattr(type(callback), hook) != getattr(keras.callbacks.Callback, hook)
