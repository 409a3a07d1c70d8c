"""Variables that Keras makes at the first batch, made before it: those of layers, optimizers, loss and metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from masslib.train import parameter_server
from masslib.train.feed import Feed
from masslib.train.replicas import Replicas
from masslib.train.validation import Evaluator, has_plain_metrics, make_metrics


class Variables:
    """Makes the variables of a training early.

    They must be there when a checkpoint is to fill them, and when a graph of several replicas is traced, which cannot
    make any. Elsewhere they save time: a train step that makes variables is traced a second time.

    Args:
        model: A compiled model.
        feed: The data it will be trained on.
        replicas: The replicas of its strategy.
        complete: Whether a checkpoint is to hold the training.
    """

    def __init__(self, model: keras.Model, feed: Feed, replicas: Replicas, *, complete: bool):
        self._model, self._feed, self._replicas, self._complete = model, feed, replicas, complete
        self._several = replicas.count > 1 or parameter_server.serves(model)
        self._by_first_step = False

    def make_weights(self) -> None:
        """Make the weights of layers that wait for the first batch to make them."""
        model = self._model
        late = _is_late(model)
        if not self._several and (late or _steps_itself(model)):
            self._trace()
        elif late and type(model).call is not keras.Model.call:
            self._call()

    def make_others(self, batch_size: int) -> None:
        """Make the variables of optimizer, loss and metrics. Collective."""
        model = self._model
        if self._by_first_step or model.optimizer is None:
            return
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
        if model.loss is None:
            return
        plain = not self._several and has_plain_metrics(model)
        labels = self._feed.labels(batch_size) if plain else None
        if labels is not None:
            make_metrics(model, labels)
        elif self._replicas.count > 1 or (self._complete and model.run_eagerly):
            Evaluator(model, self._replicas).build(self._feed.sample())
        elif self._complete:
            self._trace()

    def _trace(self) -> None:
        """Trace `train_step`, which makes whatever it needs. Nothing runs, so that no seed moves on."""
        model = self._model
        self._by_first_step = not (model.run_eagerly and self._complete)
        if not model.run_eagerly:
            with model.distribute_strategy.scope():
                run = model.distribute_strategy.run
                step = tf.function(lambda batch: run(model.train_step, (batch,)), autograph=False)
                step.get_concrete_function(self._feed.element_spec)
        elif self._complete:
            self._call()

    def _call(self) -> None:
        """Call the model, without running it where that is possible."""
        model = self._model

        def call(batch: Any) -> None:
            model(keras.utils.unpack_x_y_sample_weight(batch)[0])

        with model.distribute_strategy.scope():
            if model.run_eagerly or parameter_server.serves(model):
                call(self._feed.sample())
            else:
                with keras.StatelessScope():
                    tf.function(call, autograph=False).get_concrete_function(self._feed.element_spec)


def _steps_itself(model: keras.Model) -> bool:
    """Whether the model has a `train_step` of its own, which may use other layers and optimizers."""
    return getattr(model.train_step, "__func__", None) is not keras.Model.train_step


def _is_late(model: keras.Model) -> bool:
    """Whether a layer at any depth is without its weights yet; a model may be `built` before the layers in it."""
    pending, seen = [model], set()
    while pending:
        layer = pending.pop()
        if not layer.built:
            return True
        seen.add(id(layer))
        pending += [part for part in _layers_in(list(vars(layer).values())) if id(part) not in seen]
    return False


def _layers_in(value: Any) -> Iterator[keras.Layer]:
    if isinstance(value, keras.Layer):
        yield value
    elif isinstance(value, dict):
        yield from _layers_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _layers_in(part)
