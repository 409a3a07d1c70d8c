"""What `fit` is fed with: batches for every epoch, from whatever the caller passed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from masslib.data import Subset
from masslib.train.class_weight import weigher
from masslib.train.replicas import Replicas
from masslib.train.rows import number_of_rows, repeated, rows_between
from masslib.train.settings import Settings
from masslib.train.streams import Stream


@dataclass
class Feed:
    """Batches of every epoch, to be begun at any epoch and step.

    An epoch is a pass over the data or, with `steps_per_epoch`, so many batches of it: the next epoch goes on where
    this one ended, and one that comes to the end of the data is shorter, as in Keras.

    Attributes:
        steps: Batches per epoch; None while the data does not know its length.
        rows: Rows of the data, None for batches of the user's own.
        is_sharded: Whether the batches hold the rows of this process alone, and not the global batch.
        sample: Returns a batch like those of the data: `x`, `(x, y)` or with the weights of the rows.
        labels: Returns so many labels that look like those of the data, or None where their shape is not known.
    """

    steps: int | None
    rows: int | None
    sample: Callable[[], Any]
    labels: Callable[[int], tf.Tensor | None]
    _stream: Stream
    _spans_passes: bool = False
    _steps_per_epoch: int | None = None
    _initial_epoch: int = 0
    is_sharded: bool = False
    _iterator: Iterator | None = None

    @property
    def element_spec(self) -> Any:
        """Dtypes and shapes of a batch."""
        return self._stream.open(0, 0).element_spec

    @property
    def is_counted(self) -> bool:
        """Whether an epoch surely has the steps of `steps_in`."""
        return self.steps is not None and (self._stream.counted or self._stream.endless)

    def steps_in(self, epoch: int) -> int | None:
        """Batches of an epoch; None where that turns out at its end."""
        if self._steps_per_epoch is None or self._stream.batches is None:
            return self.steps
        return min(self._steps_per_epoch, self._stream.batches - self._place(epoch, 0)[1])

    def start(self, epoch: int, step: int) -> Iterator:
        """Return an iterator that begins with a step of an epoch; ask again at the start of every epoch."""
        self._stream.begin()
        number, start = self._place(epoch, step)
        goes_on = self._spans_passes or start > 0 or self._stream.once or (self.steps and not self._stream.batches)
        if self._iterator is None or not goes_on:
            self._iterator = iter(self._stream.open(number, start))
        return self._iterator

    def end(self, epoch: int, made: int, *, stopped: bool) -> None:
        """Note that an epoch has ended after so many steps, or was stopped."""
        self._stream.end()
        if stopped or self._steps_per_epoch is None or made == self._steps_per_epoch:
            return
        warnings.warn(
            f"the data ended after {made} of {self._steps_per_epoch} steps of epoch {epoch + 1}; the next epoch begins "
            "with its first batch. Use another steps_per_epoch, or dataset.repeat()",
            stacklevel=5,
        )
        if self._stream.batches is None:
            self._iterator = None

    def is_used_up(self, steps: int) -> bool:
        """Whether nothing is left of data that can be read once, after so many steps."""
        return self._stream.once and self._stream.length() == steps

    def check_resumable(self) -> None:
        """Raise `ValueError` if no checkpoint can tell where the data is to go on."""
        if not self._stream.seekable:
            raise ValueError(
                f"checkpoint was passed with a {self._stream.kind}, which cannot be read from its middle on; pass a "
                "Subset, arrays, a keras.utils.PyDataset or a tf.data.Dataset"
            )
        if self._steps_per_epoch and self._stream.batches is None and not self._stream.endless:
            raise ValueError(
                "checkpoint and steps_per_epoch were passed with a dataset that does not know its length; tell it with "
                "dataset.apply(tf.data.experimental.assert_cardinality(n)), or let it go on with dataset.repeat()"
            )

    def _place(self, epoch: int, step: int) -> tuple[int, int]:
        """The number of the pass that a step lies in, and its batch there."""
        steps, batches = self._steps_per_epoch, self._stream.batches
        if steps is None:
            return epoch, step
        epoch -= self._initial_epoch
        if batches is None:
            return 0, epoch * steps + step if self._stream.endless else 0
        number, part = divmod(epoch, math.ceil(batches / steps))
        return number, part * steps + step


def feed(
    data: Subset | Stream,
    settings: Settings,
    replicas: Replicas,
    *,
    class_weight: Mapping[int, float] | None = None,
    augment: keras.layers.Layer | None = None,
) -> Feed:
    """Make the feed of a training; every global batch is a multiple of the replicas and the parts they compute in.

    A process reads its own rows of a `Subset`. Of batches of the user's own every process reads all, and takes its rows
    from each: no file can starve a worker, and the global batches are those of a single process.
    """
    parts, steps_per_epoch = replicas.count * settings.accumulate, settings.steps_per_epoch
    weigh = weigher(class_weight)
    if isinstance(data, Stream):
        if augment is not None:
            raise ValueError(f"augment was passed beside a {data.kind}; apply it there, with dataset.map(...)")
        return _of_stream(data, settings, replicas, weigh)
    if weigh and not isinstance(data.y, np.ndarray):
        raise ValueError("class_weight needs the labels of one output; pass sample_weight, one for each output")
    # A part to accumulate has rows of all processes, so each of them needs the whole batch.
    is_sharded = replicas.workers > 1 and settings.accumulate == 1
    steps = data.steps(settings.batch_size, parts)
    passes = math.ceil(settings.epochs / math.ceil(steps / (steps_per_epoch or steps)))

    def open_subset(number: int, start: int) -> tf.data.Dataset:
        batches = data.batches(
            settings.batch_size,
            shuffle=settings.shuffle,
            seed=settings.seed,
            epoch=number,
            epochs=passes - number,
            start=start,
            replicas=parts,
            shard=(replicas.rank, replicas.workers) if is_sharded else None,
            augment=augment,
        )
        return batches.map(weigh) if weigh else batches

    return Feed(
        steps=steps_per_epoch or steps,
        rows=len(data),
        is_sharded=is_sharded,
        sample=lambda: keras.utils.pack_x_y_sample_weight(*data[:parts]),
        labels=lambda rows: tf.convert_to_tensor(data.y[:rows]) if isinstance(data.y, np.ndarray) else None,
        _stream=Stream("Subset", open_subset, batches=steps, counted=True),
        _spans_passes=True,
        _steps_per_epoch=steps_per_epoch,
    )


def _of_stream(stream: Stream, settings: Settings, replicas: Replicas, weigh: Callable | None) -> Feed:
    parts, steps_per_epoch = replicas.count * settings.accumulate, settings.steps_per_epoch
    if stream.endless and steps_per_epoch is None:
        raise ValueError(f"the {stream.kind} never ends; pass steps_per_epoch")
    if not stream.seekable and replicas.workers > 1:
        raise ValueError(
            f"a {stream.kind} was passed to {replicas.workers} workers, which need the same batches in all of them; "
            "pass a Subset, arrays, a keras.utils.PyDataset or a tf.data.Dataset"
        )

    def change(dataset: tf.data.Dataset) -> tf.data.Dataset:
        dataset = dataset.map(_cutter(parts)) if parts > 1 else dataset
        return dataset.map(weigh) if weigh else dataset

    changed = stream.changed(change) if parts > 1 or weigh else stream

    def sample() -> Any:
        if stream.first is None:
            return _lookalike(changed.open(0, 0), parts)
        return next(iter(change(tf.data.Dataset.from_tensors(stream.first))))

    made = Feed(
        steps=steps_per_epoch or stream.batches,
        rows=None,
        sample=sample,
        labels=lambda rows: labels_like(changed.open(0, 0), rows),
        _stream=changed,
        _steps_per_epoch=steps_per_epoch,
        _initial_epoch=settings.initial_epoch,
    )
    if settings.checkpoint is not None:
        made.check_resumable()
    return made


def labels_like(dataset: tf.data.Dataset, rows: int) -> tf.Tensor | None:
    """Make zeros like the labels of a dataset of `(x, y)` or `(x, y, weight)`, or None if their shape is unknown."""
    spec = dataset.element_spec
    labels = spec[1] if isinstance(spec, tuple) and len(spec) > 1 else None
    if not isinstance(labels, tf.TensorSpec) or not labels.shape.rank or not labels.shape[1:].is_fully_defined():
        return None
    return tf.zeros([labels.shape[0] or rows, *labels.shape[1:]], labels.dtype)


def _lookalike(dataset: tf.data.Dataset, rows: int) -> Any:
    """Make a batch of zeros. To take one from the dataset would change the order of those that shuffle anew."""

    def known(spec: Any) -> bool:
        varying = getattr(spec, "ragged_rank", 0) + 1  # axes whose sizes are those of the rows
        return bool(spec.shape.rank) and spec.shape[varying:].is_fully_defined()

    def zeros(spec: Any) -> Any:
        dense = tf.zeros([rows, *(1 if size is None else size for size in spec.shape[1:])], spec.dtype)
        if isinstance(spec, tf.SparseTensorSpec):
            return tf.sparse.from_dense(dense)
        if isinstance(spec, tf.RaggedTensorSpec):
            return tf.RaggedTensor.from_tensor(
                dense, ragged_rank=spec.ragged_rank, row_splits_dtype=spec.row_splits_dtype
            )
        return dense

    if not all(known(spec) for spec in tf.nest.flatten(dataset.element_spec)):
        return next(iter(dataset))
    return tf.nest.map_structure(zeros, dataset.element_spec)


def _cutter(parts: int) -> Any:
    """Cut the batches of a user's dataset to a multiple of `parts` rows; of one with fewer every part gets all."""

    def cut(*batch: Any) -> Any:
        rows = number_of_rows(batch)
        kept = rows - rows % parts

        def cut_one(tensor: Any) -> Any:
            return tf.cond(kept > 0, lambda: rows_between(tensor, 0, kept), lambda: repeated(tensor, parts))

        return tf.nest.map_structure(cut_one, batch)

    return cut
