"""Asynchronous training: workers compute gradients, parameter servers hold the model, the chief gives out batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from masslib.train.feed import Feed
from masslib.train.resume import Journal
from masslib.train.validation import plain

# Steps that are given out before the first of them has returned: enough for no worker to wait, few enough for their
# batches to fit into memory.
_AHEAD = 32
# Steps whose answers are judged together, since the variables of the metrics lie on the servers.
_TOGETHER = 50


@dataclass
class ServedEpoch:
    """The steps of an epoch, given to whichever worker is free.

    Keras' metrics lose updates when several workers write them at once, so each step returns its loss and its answers,
    and the chief judges them: the History is exact for what the steps have seen.
    """

    model: keras.Model
    source: Feed
    watchers: keras.callbacks.CallbackList
    journal: Journal
    save_every: int | None
    on_nan: str

    def run(self) -> dict[str, Any]:
        """Train to the end of the epoch, or until the training is to stop; return the logs."""
        journal, steps = self.journal, self.source.steps_in(self.journal.epoch)
        judge = _Judge(self.model)
        batches = iter(self.source.start(journal.epoch, journal.step))
        while not self.model.stop_training:
            self.watchers.on_train_batch_begin(journal.step)
            count = _TOGETHER if steps is None else min(_TOGETHER, steps - journal.step)
            if self.save_every:
                count = min(count, self.save_every - journal.total % self.save_every)
            made = count and judge.take(self.crew.run(self.crew.train, islice(batches, count)))
            if not made:
                break
            journal.advance(made)
            logs = judge.logs()
            self.watchers.on_train_batch_end(journal.step - 1, logs)
            if self.on_nan != "ignore" and journal.stop_if_not_finite(logs, restore=self.on_nan == "restore"):
                self.model.stop_training = True
            elif self.save_every and journal.total % self.save_every == 0 and journal.step != steps:
                journal.save()
        self.source.end(journal.epoch, journal.step, stopped=self.model.stop_training)
        journal.check_progress(self.model.stop_training)
        return judge.logs()

    @cached_property
    def crew(self) -> Crew:
        """The workers."""
        return Crew(self.model)


class Crew:
    """The workers of a parameter-server cluster, as functions of a batch that run on them."""

    def __init__(self, model: keras.Model):
        strategy = model.distribute_strategy
        self._coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)

        def train(x: Any, y: Any, weight: Any = None) -> tuple[tf.Tensor, Any]:
            with tf.GradientTape() as tape:
                answers = model(x, training=True)
                loss = model.compute_loss(x, y, answers, weight, training=True)
            model.optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            return loss, answers

        def test(x: Any, y: Any, weight: Any = None) -> tuple[tf.Tensor, Any]:
            answers = model(x, training=False)
            return model.compute_loss(x, y, answers, weight, training=False), answers

        def remotely(step: Callable) -> Any:
            return tf.function(lambda *batch: strategy.run(step, batch), reduce_retracing=True, autograph=False)

        self.train, self.test = remotely(train), remotely(test)

    def run(self, step: Callable, batches: Iterable[tuple]) -> Iterator[tuple[tuple, float, Any]]:
        """Run a step on every batch, in any order and on any worker; yield batch, loss and answers in order."""
        under_way: deque[tuple[tuple, Any]] = deque()
        for batch in batches:
            if len(under_way) >= _AHEAD:
                yield _arrived(*under_way.popleft())
            under_way.append((batch, self._coordinator.schedule(step, args=batch)))
        while under_way:
            yield _arrived(*under_way.popleft())


def _arrived(batch: tuple, value: Any) -> tuple[tuple, float, Any]:
    loss, answers = value.fetch()
    return batch, float(loss), answers


class _Judge:
    """Computes loss and metrics from what steps have returned."""

    def __init__(self, model: keras.Model):
        self._model = model
        self._losses, self._rows = 0.0, 0
        self._metrics: dict[str, Any] = {}
        model.reset_metrics()

    def take(self, results: Iterable[tuple[tuple, float, Any]]) -> int:
        """Judge some results and return how many there were."""
        taken = list(results)
        if taken:
            for batch, loss, _ in taken:
                rows = len(batch[1])
                self._losses, self._rows = self._losses + loss * rows, self._rows + rows
            x, y, *weight = (np.concatenate(column) for column in zip(*(batch for batch, _, _ in taken), strict=True))
            answers = np.concatenate([answers for _, _, answers in taken])
            self._metrics = self._model.compute_metrics(x, y, answers, *weight)
        return len(taken)

    def logs(self) -> dict[str, Any]:
        """Return name and value of loss and metrics so far."""
        if not self._rows:
            return {}
        return plain(self._metrics) | {"loss": self._losses / self._rows}


@dataclass
class ServedEvaluator:
    """Loss and metrics of a model on a dataset, computed by the workers."""

    model: keras.Model
    crew: Crew

    def run(self, batches: tf.data.Dataset, watchers: keras.callbacks.CallbackList) -> dict[str, Any]:
        """Return name and value of loss and metrics."""
        watchers.on_test_begin()
        judge = _Judge(self.model)
        iterator = iter(batches)
        while judge.take(self.crew.run(self.crew.test, islice(iterator, _TOGETHER))):
            pass
        watchers.on_test_end(judge.logs())
        return judge.logs()


def serves(model: keras.Model) -> bool:
    """Tell whether the variables of a model lie on parameter servers."""
    return isinstance(model.distribute_strategy, tf.distribute.ParameterServerStrategy)


def check(model: keras.Model, *, accumulate: int, wire: str) -> None:
    """Refuse what asynchronous training cannot do.

    Raises:
        ValueError: If it was asked for.
    """
    if type(model).train_step is not keras.Model.train_step:
        raise ValueError(
            f"model {model.name!r} has a train_step of its own, which parameter servers cannot run; train it under "
            "masslib.strategy('multi_worker')"
        )
    if accumulate > 1:
        raise ValueError(f"accumulate={accumulate}: a step of a parameter-server training is one batch of one worker")
    if wire != "auto":
        raise ValueError(f"wire={wire!r}: a parameter server is sent the gradients as they are; leave wire out")
