"""The steps of an epoch, many in one call of the host."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from masslib.train.feed import Feed
from masslib.train.replicas import Replicas
from masslib.train.resume import Journal
from masslib.train.validation import plain
from masslib.train.workers import TERMINATED, Termination

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
        model, journal, steps = self.model, self.journal, self.source.steps_in(self.journal.epoch)
        logs: dict[str, Any] = {}
        if journal.step == 0:
            model.reset_metrics()
        iterator = self.source.start(journal.epoch, journal.step)
        number = journal.step
        while steps is None or journal.step < steps:
            count = self._count(steps)
            self.watchers.on_train_batch_begin(number)
            start = time.monotonic()
            made, result = self.run_steps(iterator, count)
            if made == 0:
                break
            logs = plain(result)
            journal.advance(made)
            number = self._last(at_the_end=made < count or journal.step == steps)
            self.watchers.on_train_batch_end(number, logs)
            number += 1
            if self.on_nan != "ignore" and journal.stop_if_not_finite(logs, restore=self.on_nan == "restore"):
                model.stop_training = True
            elif self.save_every and journal.total % self.save_every == 0 and journal.step != steps:
                journal.save()
            self._agree(made, time.monotonic() - start)
            if model.stop_training:  # asked here alone, as in Keras, where all workers have agreed on it
                break
        self.source.end(journal.epoch, journal.step, stopped=model.stop_training)
        journal.check_progress(model.stop_training)
        journal.average()
        if model.loss is None:  # what train_step returned is all there is
            return logs
        metrics = plain(model.get_metrics_result())
        return metrics if metrics.keys() == logs.keys() else logs  # a train_step may return logs of its own

    def _agree(self, count: int, seconds: float) -> None:
        """Let several workers end together, and come to the next agreement in time.

        Raises:
            SystemExit: If one of them was told to terminate; there is a checkpoint then.
        """
        end = self.termination.asked
        if self.replicas.workers > 1:
            in_time = max(1, int(count * _MOST_SECONDS / seconds))
            flags = end, bool(self.model.stop_training)
            (end, self.model.stop_training), self._in_time = self.replicas.agree(*flags, count=in_time)
        if end:
            self.journal.save()
            self.journal.wait()
            raise SystemExit(TERMINATED)

    def _count(self, steps: int | None) -> int:
        """How many steps the next call runs: not beyond the epoch, nor beyond the next checkpoint."""
        if steps is None:
            count = min(self.model.steps_per_execution, self._in_time)
        else:
            count = min(self.per_call, self._in_time, steps - self.journal.step)
        return min(count, self.save_every - self.journal.total % self.save_every) if self.save_every else count

    def _last(self, *, at_the_end: bool) -> int:
        """The number of the last step made, or at the end of the data the one that Keras shows there.

        Its calls always count `steps_per_execution` steps, those that they do not find included.
        """
        every = self.model.steps_per_execution if at_the_end else 1
        return -(-self.journal.step // every) * every - 1


def steps_per_call(model: keras.Model, callbacks: Sequence[keras.callbacks.Callback]) -> int:
    """How many train steps one call of the host runs; callbacks that look at every batch need one."""
    watching = any(looks_at_batches(callback) for callback in callbacks)
    fixed = watching or model.run_eagerly or model.steps_per_execution > 1
    return model.steps_per_execution if fixed else _STEPS_PER_CALL


def looks_at_batches(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback has something to do at every train batch."""
    known = keras.callbacks
    if type(callback) is known.ProgbarLogger:
        return False
    if type(callback) in (known.ModelCheckpoint, getattr(known, "OrbaxCheckpoint", None)):
        return callback.save_freq != "epoch"
    if type(callback) is known.TensorBoard:
        # No public name tells whether it profiles.
        profiles = getattr(callback, "_should_trace", True)
        return callback.update_freq != "epoch" or callback.write_steps_per_second or profiles
    hooks = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    # LambdaCallback keeps them in the instance.
    return any(
        hook in vars(callback) or getattr(type(callback), hook) is not getattr(known.Callback, hook) for hook in hooks
    )
