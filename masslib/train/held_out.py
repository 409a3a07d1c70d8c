"""The rows that a model is evaluated on, during a training and by itself."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from masslib.data import Subset
from masslib.train.given import given
from masslib.train.replicas import Replicas
from masslib.train.settings import Settings
from masslib.train.streams import Stream


@dataclass(frozen=True)
class HeldOut:
    """Batches to evaluate a model on, always the same.

    Attributes:
        batches: The batches.
        freq: After every how many epochs, or after which of them, counted from 1.
    """

    batches: tf.data.Dataset
    freq: int | Collection[int] = 1
    _stream: Stream | None = None

    def is_due(self, epoch: int) -> bool:
        """Whether it is time to evaluate at the end of an epoch, counted from 0."""
        return (epoch + 1) % self.freq == 0 if isinstance(self.freq, int) else epoch + 1 in self.freq

    def evaluated(self, evaluator: Any, watchers: keras.callbacks.CallbackList) -> dict[str, Any]:
        """Return the name and value of loss and metrics. Collective."""
        if self._stream is None:
            return evaluator.run(self.batches, watchers)
        self._stream.begin()
        logs = evaluator.run(self.batches, watchers)
        self._stream.end()
        return logs


def held_out(
    data: Subset | Stream, *, batch_size: int, steps: int | None, workers: int, freq: int | Collection[int] = 1
) -> HeldOut:
    """Make the batches to evaluate on: all of them, or the first `steps`.

    Raises:
        ValueError: They never end, or can be read once only.
    """
    if isinstance(data, Subset):
        batches = data.batches(batch_size, shuffle=False)
        return HeldOut(batches if steps is None else batches.take(steps), freq)
    if steps is None and (data.endless or data.once):
        ends = "never ends" if data.endless else "does not say where it ends"
        raise ValueError(f"the {data.kind} to evaluate on {ends}; pass validation_steps (steps in evaluate_compiled)")
    if workers > 1 and not data.seekable:
        raise ValueError(
            f"a {data.kind} was passed to {workers} workers to evaluate on, which need the same batches in all of "
            "them; pass a Subset, arrays, a keras.utils.PyDataset or a tf.data.Dataset"
        )
    batches = data.open(0, 0)
    if data.batches is not None:
        batches = batches.apply(tf.data.experimental.assert_cardinality(data.batches))
    batches = batches if steps is None else batches.take(steps)
    return HeldOut(batches.cache() if data.once else batches, freq, data)


def validation(data: Any, settings: Settings, replicas: Replicas) -> HeldOut | None:
    """Make what to validate on of what was passed as `validation_data`: one of Keras' kinds, or a tuple of arrays."""
    if data is None:
        return None
    batch_size = settings.validation_batch_size or settings.batch_size
    return held_out(
        given(*keras.utils.unpack_x_y_sample_weight(data), batch_size=batch_size),
        batch_size=batch_size,
        steps=settings.validation_steps,
        workers=replicas.workers,
        freq=settings.validation_freq,
    )
