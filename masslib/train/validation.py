"""Evaluation during a training, under every strategy."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from masslib.train.replicas import Replicas
from masslib.train.rows import number_of_rows, rows_between

if TYPE_CHECKING:
    import keras
    import tf_keras


def has_plain_metrics(model: keras.Model | tf_keras.Model) -> bool:
    """Whether loss and metrics of a model follow from labels and answers alone, and the shape of these is known."""
    kind, outputs = type(model), getattr(model, "outputs", None) or ()
    return (
        all(
            method.__module__.startswith(("keras.", "tf_keras."))
            for method in (kind.train_step, kind.test_step, kind.compute_loss, kind.compute_metrics)
        )
        and len(outputs) == 1
        and len(outputs[0].shape) > 1
        and None not in tuple(outputs[0].shape)[1:]
    )


def make_metrics(model: keras.Model | tf_keras.Model, labels: tf.Tensor) -> None:
    """Make the variables of loss and metrics, as either Keras does at the first batch, without asking the network."""
    (output,) = model.outputs
    answers = tf.fill([len(labels), *tuple(output.shape)[1:]], tf.constant(0.5, output.dtype))
    model.compute_loss(None, labels, answers, None)
    model.compute_metrics(None, labels, answers, None)
    model.reset_metrics()


class Evaluator:
    """Computes loss and metrics of a model on a dataset, the same on all workers.

    Keras' own `evaluate` does it without a strategy. Under several workers it fails (keras issue 20585), and where the
    rows of the first batch are no multiple of the replicas, too. So there each worker runs the model's `test_step` on
    every n-th batch, each replica on its rows of it, and the metrics are summed at the end.
    """

    def __init__(self, model: keras.Model, replicas: Replicas):
        self._model, self._replicas = model, replicas
        self._step: Any = None
        # Under another one, of one replica, Keras weighs the batches in the losses of single outputs by their rows.
        self._has_default_strategy = replicas.strategy is tf.distribute.get_strategy()

    def run(self, batches: tf.data.Dataset, watchers: keras.callbacks.CallbackList) -> dict[str, Any]:
        """Return the name and value of loss and metrics. Collective."""
        model, replicas = self._model, self._replicas
        if self._has_default_strategy:
            return model.evaluate(batches, verbose=0, return_dict=True, callbacks=watchers)
        logs: dict[str, Any] = {}
        every, iterator = model.steps_per_execution, iter(batches.shard(replicas.workers, replicas.rank))
        model.stop_evaluating = False
        watchers.on_test_begin()
        model.reset_metrics()
        for number, some in enumerate(iter(lambda: list(itertools.islice(iterator, every)), [])):
            watchers.on_test_batch_begin(number * every)
            for batch in some:
                logs = self._test(batch)
            watchers.on_test_batch_end(number * every + every - 1, plain(logs))
            if model.stop_evaluating:
                break
        metrics = plain(model.get_metrics_result())
        if logs and logs.keys() != metrics.keys():  # a test_step may return logs of its own
            metrics = plain(logs)
        watchers.on_test_end(metrics)
        return metrics

    def build(self, batch: tuple) -> None:
        """Make the variables of the metrics, which Keras makes at the first batch."""
        with self._replicas.strategy.scope():
            if self._replicas.count == 1:
                self._model.test_on_batch(*batch)
            else:
                self._on_every_replica(batch)
        self._model.reset_metrics()

    def _test(self, batch: tuple) -> Any:
        if self._step is None:
            step = self._on_every_replica
            if not self._model.run_eagerly:
                step = tf.function(step, reduce_retracing=True, autograph=False)
            self._step = step
        return self._step(batch)

    def _on_every_replica(self, batch: tuple) -> Any:
        """Run `test_step` on the replicas of this process; return the mean of their logs."""
        replicas = self._replicas

        def replica_step() -> Any:
            position = tf.distribute.get_replica_context().replica_id_in_sync_group - replicas.first
            mine = tf.nest.map_structure(lambda tensor: _share(tensor, position, replicas.local), batch)
            return self._model.test_step(mine)

        logs = replicas.strategy.run(replica_step)
        local = replicas.strategy.experimental_local_results
        return tf.nest.map_structure(lambda value: tf.reduce_mean(local(value), axis=0), logs)


def plain(logs: Any) -> dict[str, Any]:
    """Logs as Keras gives them to callbacks: flat; numbers, and what has several, such as F1Score, as arrays."""
    flat: dict[str, Any] = {}
    for name, value in (logs or {}).items():
        if isinstance(value, Mapping):
            flat |= plain(value)
        else:
            array = np.asarray(value)
            flat[name] = array if array.ndim else float(array)
    return flat


def _share(tensor: Any, position: Any, count: int) -> Any:
    """Cut the rows of one replica; sizes may differ by one."""
    rows = number_of_rows(tensor)
    return rows_between(tensor, rows * position // count, rows * (position + 1) // count)
