"""Fine-tuning between two steps of a recipe: in tf_keras where TFMOT trains, else by `masslib.fit`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras

from masslib import bridge
from masslib._util import progress
from masslib._util.quiet import quiet, quiet_logger
from masslib.compression.step import Training
from masslib.data.rows import nested
from masslib.graph.compiled import compile_alike
from masslib.graph.structures import inputs_in_order, output_names, outputs_in_order
from masslib.train import fit
from masslib.train.feed import labels_like
from masslib.train.validation import has_plain_metrics, make_metrics

if TYPE_CHECKING:
    from masslib.data import Subset


# Steps of a Keras 3 model between two looks of the progress bar.
_STEPS_PER_CALL = 10


@dataclass(frozen=True)
class Tuner:
    """Trains the models of one recipe on its data, as `model` was compiled."""

    model: keras.Model
    data: Subset
    batch_size: int
    seed: int
    verbose: bool

    @property
    def _replicas(self) -> int:
        # Every replica must get rows of every batch: one without any makes a batch normalization NaN.
        return self.model.distribute_strategy.num_replicas_in_sync

    def steps(self, training: Training) -> int:
        """Return how many batches a step of the recipe trains for."""
        steps = training.epochs * self.data.steps(self.batch_size, self._replicas)
        return min(steps, training.max_steps or steps)

    def compile(self, twin: tf_keras.Model, learning_rate: float | None = None) -> None:
        """Compile `twin` in place, as the model was, for the labels of the data."""
        _, labels, *_ = self.data[:1]
        ndims = None if labels is None else [np.ndim(array) for array in outputs_in_order(self.model, labels)]
        bridge.compile_like(twin, self.model, learning_rate=learning_rate, label_ndim=ndims)

    def fit(self, twin: tf_keras.Model, training: Training, callbacks: list[Any] | None = None) -> None:
        """Compile and fine-tune `twin` in place."""
        batches = self._batches(training).map(
            partial(self._suited, twin)
        )  # not in quiet(), for it tells of rows left out
        self.compile(twin, training.learning_rate)
        self._make_variables(twin, batches)
        # tf_keras warns of kernels without gradients, which TFMOT computes from the centroids.
        with self._progress(training, tf_keras.callbacks.Callback) as watcher, quiet():
            twin.fit(batches, verbose=0, callbacks=[*(callbacks or []), watcher])

    def _make_variables(self, twin: tf_keras.Model, batches: tf.data.Dataset) -> None:
        """Make the variables of optimizer and metrics, or the first train step would, and be traced a second time."""
        with self.model.distribute_strategy.scope():
            twin.optimizer.build(twin.trainable_variables)
        labels = labels_like(batches, self.batch_size)
        # Losses of what layers answer are of a batch, and there is none yet.
        answered = any(map(tf.is_symbolic_tensor, twin.losses))
        if labels is not None and has_plain_metrics(twin) and not (answered or tf.distribute.has_strategy()):
            make_metrics(twin, labels)

    def fit_rebuilt(self, model: keras.Model, training: Training) -> None:
        """Compile and fine-tune a Keras 3 model in place."""
        with self.model.distribute_strategy.scope():
            compile_alike(model, self.model, training.learning_rate)
        self.run(model, training)

    def run(self, model: keras.Model, training: Training) -> None:
        """Fine-tune a compiled Keras 3 model in place."""
        model.steps_per_execution = max(model.steps_per_execution, _STEPS_PER_CALL)
        # TensorFlow advises against tracing anew, but every step of a recipe has another model to trace.
        with self._progress(training, keras.callbacks.Callback) as watcher, quiet_logger():
            batches = self._batches(training)
            # A model that trains another one, as `Distill` and `Squeeze` make them, has no outputs of its own.
            trained = getattr(model, "student", getattr(model, "model", model))
            if model.compiled and output_names(trained) != output_names(self.model):
                batches = batches.map(partial(self._suited, trained))
            fit(model, batches, verbose=0, callbacks=[watcher])

    def sample(self, twin: tf_keras.Model, batches: int) -> list[tuple[Any, ...]]:
        """Return some random batches, as a twin takes them: the inputs, and what else its loss needs."""
        rows = self.data.sample(min(batches * self.batch_size, len(self.data)), seed=self.seed)
        starts = range(0, len(rows), self.batch_size)
        return [self._suited(twin, *rows[start : start + self.batch_size]) for start in starts]

    def _suited(
        self, twin: tf_keras.Model | keras.Model, x: Any, y: Any = None, weights: Any = None
    ) -> tuple[Any, ...]:
        """Number inputs and outputs, which have other names in a twin."""
        if not isinstance(twin, keras.Model):
            inputs = inputs_in_order(self.model, x)
            x = tuple(inputs) if len(inputs) > 1 else inputs[0]
        batch = [x]
        for part in (y, weights):
            if keras.tree.is_nested(part):
                part = nested(lambda it: it, bridge.like_outputs(twin, outputs_in_order(self.model, part)))
            batch.append(part)
        return tuple(part for part in batch if part is not None)

    def _batches(self, training: Training) -> tf.data.Dataset:
        """All batches of a step of the recipe, as one epoch."""
        batches = self.data.batches(self.batch_size, seed=self.seed, epochs=training.epochs, replicas=self._replicas)
        return batches.take(self.steps(training))

    @contextmanager
    def _progress(self, training: Training, base: type) -> Iterator[Any]:
        """Show a bar, updated by a callback of either Keras."""
        steps = self.steps(training)
        with progress.bar(title=repr(training), unit="batch", visible=self.verbose, total=steps) as bar:

            class Progress(base):
                def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
                    bar.update(batch + 1 - bar.n)
                    if batch % 20 == 0 and logs:
                        numbers = {name: f"{value:.3f}" for name, value in logs.items() if not np.ndim(value)}
                        bar.set_postfix(numbers, refresh=False)

            yield Progress()


class Rebuilding(Training):
    """A step that changes the architecture: it rebuilds the Keras 3 model, and is fine-tuned before the bridge."""

    def rebuild(self, model: keras.Model, tuner: Tuner) -> tuple[keras.Model, dict[str, str]]:
        """Return a new, compiled and fine-tuned model, and the layers left alone with the reason.

        What has variables is made in the scope of the model's strategy; `masslib.fit` trains outside of it.
        """
        raise NotImplementedError
