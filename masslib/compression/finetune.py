"""Fine-tuning between two steps of a recipe, in tf_keras because TFMOT trains there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from masslib import bridge, progress
from masslib.bridge.toolkit import quiet

if TYPE_CHECKING:
    import keras
    import tf_keras

    from masslib.compression.step import Training
    from masslib.data import Subset


@dataclass(frozen=True)
class Tuner:
    """Trains the tf_keras twins of one recipe on its data, as `model` was compiled."""

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

    def fit(self, twin: tf_keras.Model, training: Training, callbacks: list[Any] | None = None) -> None:
        """Compile and fine-tune `twin` in place."""
        bridge.compile_like(twin, self.model, learning_rate=training.learning_rate)
        steps = self.steps(training)
        batches = self.data.batches(
            self.batch_size, seed=self.seed, epochs=training.epochs, replicas=self._replicas
        ).take(steps)
        # tf_keras warns of kernels without gradients, which TFMOT computes from the centroids.
        with _progress(repr(training), steps, self.verbose) as watcher, quiet():
            twin.fit(batches, verbose=0, callbacks=[*(callbacks or []), watcher])


@contextmanager
def _progress(title: str, steps: int, visible: bool) -> Iterator[tf_keras.callbacks.Callback]:
    import tf_keras

    with progress.bar(title=title, unit="batch", visible=visible, total=steps) as bar:

        class Progress(tf_keras.callbacks.Callback):
            def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
                bar.update()
                if batch % 20 == 0 and logs:
                    bar.set_postfix({name: f"{value:.3f}" for name, value in logs.items()}, refresh=False)

        yield Progress()
