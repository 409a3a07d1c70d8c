"""What `fit` is fed with: batches for every epoch, from whatever the caller passed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from masslib.data import Subset
from masslib.data.passed import passed
from masslib.train.replicas import Replicas
from masslib.train.rows import number_of_rows, repeated, rows_between


@dataclass
class Feed:
    """Batches of every epoch, to be begun at any epoch and step.

    Attributes:
        steps: Batches per epoch; None while a dataset does not know its length.
        rows: Rows per epoch, None for a dataset.
        is_sharded: Whether the batches hold the rows of this process alone, and not the global batch.
        sample: Returns a batch like those of the data: `x`, `(x, y)` or with the weights of the rows.
        labels: Returns so many labels that look like those of the data, or None where their shape is not known.
    """

    steps: int | None
    rows: int | None
    sample: Callable[[], tuple]
    labels: Callable[[int], tf.Tensor | None]
    _open: Callable[[int, int], tf.data.Dataset]
    _spans_epochs: bool
    is_sharded: bool = False
    _iterator: Iterator | None = None

    @property
    def element_spec(self) -> Any:
        """Dtypes and shapes of a batch."""
        return self._open(0, 0).element_spec

    def start(self, epoch: int, step: int) -> Iterator:
        """Return an iterator that begins with a step of an epoch; ask again at the start of every epoch."""
        if self._iterator is None or not self._spans_epochs:
            self._iterator = iter(self._open(epoch, step))
        return self._iterator


def feed(
    x: Any,
    y: Any,
    *,
    batch_size: int,
    shuffle: bool,
    seed: int,
    epochs: int,
    replicas: Replicas,
    accumulate: int,
    class_weight: Mapping[int, float] | None = None,
    augment: keras.layers.Layer | None = None,
) -> Feed:
    """Make the feed of a training; every global batch is a multiple of the replicas and the parts they compute in.

    A process reads its own rows of a `Subset`. Of a user's dataset every process reads all, and takes its rows from
    each batch: no file can starve a worker, and the global batches are those of a single process.
    """
    parts = replicas.count * accumulate
    weigh = _weigher(class_weight)
    if not isinstance(x, tf.data.Dataset):
        subset = _subset(x, y)
        if weigh and not isinstance(subset.y, np.ndarray):
            raise ValueError("class_weight needs labels of a single output; give the rows weights in a dataset instead")
        # A part to accumulate has rows of all processes, so each of them needs the whole batch.
        is_sharded = replicas.workers > 1 and accumulate == 1

        def open_subset(epoch: int, step: int) -> tf.data.Dataset:
            batches = subset.batches(
                batch_size,
                shuffle=shuffle,
                seed=seed,
                epoch=epoch,
                epochs=epochs - epoch,
                start=step,
                replicas=parts,
                shard=(replicas.rank, replicas.workers) if is_sharded else None,
                augment=augment,
            )
            return batches.map(weigh) if weigh else batches

        steps = subset.steps(batch_size, parts)
        return Feed(
            steps=steps,
            rows=len(subset),
            is_sharded=is_sharded,
            sample=lambda: keras.utils.pack_x_y_sample_weight(*subset[:parts]),
            labels=lambda rows: tf.convert_to_tensor(subset.y[:rows]) if isinstance(subset.y, np.ndarray) else None,
            _open=open_subset,
            _spans_epochs=True,
        )
    if y is not None:
        raise ValueError("y was passed beside a tf.data.Dataset; the dataset must yield (x, y) itself")
    if augment is not None:
        raise ValueError("augment was passed beside a tf.data.Dataset; apply it there with dataset.map(...)")
    cardinality = int(x.cardinality())
    if cardinality == tf.data.INFINITE_CARDINALITY:
        raise ValueError("the dataset never ends; cut it with dataset.take(steps_per_epoch)")
    dataset = x.map(_cutter(parts)) if parts > 1 else x
    if weigh and isinstance(x.element_spec, tuple) and tf.nest.is_nested(x.element_spec[1]):
        raise ValueError("class_weight is only supported for models with a single output; pass sample weights instead")
    dataset = dataset.map(weigh) if weigh else dataset
    steps = cardinality if cardinality >= 0 else None
    return Feed(
        steps=steps,
        rows=None,
        sample=lambda: _lookalike(dataset, parts),
        labels=lambda rows: labels_like(dataset, rows),
        _open=lambda epoch, step: dataset.skip(step),
        _spans_epochs=False,
    )


def _subset(x: Any, y: Any = None) -> Subset:
    """Make a `Subset` of what was passed as x and y."""
    if isinstance(x, Subset):
        if y is not None:
            raise ValueError("y was passed beside a Subset, which has its own labels; leave y out")
        return x
    return passed(x, y)


def validation_batches(data: Any, batch_size: int) -> tf.data.Dataset | None:
    """Make batches of what was passed as validation_data."""
    if data is None or isinstance(data, tf.data.Dataset):
        return data
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    if weight is None:
        return _subset(x, y).batches(batch_size, shuffle=False)
    return passed(x, (y, weight)).batches(batch_size, shuffle=False).map(lambda x, rest: (x, *rest))


def labels_like(dataset: tf.data.Dataset, rows: int) -> tf.Tensor | None:
    """Make zeros like the labels of a dataset of `(x, y)` or `(x, y, weight)`, or None if their shape is unknown."""
    spec = dataset.element_spec
    labels = spec[1] if isinstance(spec, tuple) and len(spec) > 1 else None
    if not isinstance(labels, tf.TensorSpec) or not labels.shape.rank or not labels.shape[1:].is_fully_defined():
        return None
    return tf.zeros([labels.shape[0] or rows, *labels.shape[1:]], labels.dtype)


def _lookalike(dataset: tf.data.Dataset, rows: int) -> Any:
    """Make a batch of zeros. To take one from the dataset would change the order of those that shuffle anew."""
    specs = tf.nest.flatten(dataset.element_spec)
    dense = all(isinstance(spec, tf.TensorSpec) for spec in specs)
    if not dense or not all(spec.shape.rank and spec.shape[1:].is_fully_defined() for spec in specs):
        return next(iter(dataset))
    return tf.nest.map_structure(lambda spec: tf.zeros([rows, *spec.shape[1:]], spec.dtype), dataset.element_spec)


def _cutter(parts: int) -> Any:
    """Cut the batches of a user's dataset to a multiple of `parts` rows; of one with fewer every part gets all."""

    def cut(*batch: Any) -> Any:
        rows = number_of_rows(batch)
        kept = rows - rows % parts

        def cut_one(tensor: Any) -> Any:
            return tf.cond(kept > 0, lambda: rows_between(tensor, 0, kept), lambda: repeated(tensor, parts))

        return tf.nest.map_structure(cut_one, batch)

    return cut


def _weigher(class_weight: Mapping[int, float] | None) -> Any:
    """Turn class weights into the weights of rows, as Keras does."""
    if class_weight is None:
        return None
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            f"class_weight is a {type(class_weight).__name__}; expected a dict of classes and their weights"
        )
    if not class_weight or not all(isinstance(label, Integral) and label >= 0 for label in class_weight):
        raise ValueError(f"class_weight has the classes {list(class_weight)}; expected numbers of classes, from 0 on")
    table = tf.constant([float(class_weight.get(label, 1)) for label in range(max(class_weight) + 1)] + [1.0])

    def weigh(x: Any, y: tf.Tensor, weight: tf.Tensor | None = None) -> tuple:
        rank = y.shape.rank or 1
        if rank > 2:
            raise ValueError(f"class_weight: labels of shape {tuple(y.shape)}; expected (n,), (n, 1) or one-hot (n, k)")
        one_hot = rank == 2 and (y.shape[-1] or 1) > 1
        classes = tf.argmax(y, axis=-1) if one_hot else tf.reshape(y, [-1])
        classes = tf.cast(tf.round(classes), tf.int32)
        rows = tf.gather(table, tf.minimum(classes, len(table) - 1))  # others weigh 1
        return x, y, rows if weight is None else rows * tf.cast(weight, rows.dtype)

    return weigh
