"""The data that a user passes to `fit`, as rows that are ours to cut or as batches that are not."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from masslib.data import Subset
from masslib.data.passed import passed
from masslib.train.replicas import Replicas
from masslib.train.settings import Settings
from masslib.train.streams import Stream, of_slices, stream


def given(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
) -> Subset | Stream:
    """Tell rows from batches; what Keras takes as x, y and sample_weight is taken.

    Args:
        x: A `Subset`, batches of some kind, or arrays.
        y: Labels beside arrays.
        sample_weight: Weights beside arrays.
        batch_size: Rows per batch of ragged and sparse tensors.
        shuffle: Whether such rows, and the batches of a `PyDataset`, are to be shuffled.
        seed: The seed of that.

    Raises:
        TypeError: Data of another kind.
        ValueError: Unequal counts of rows; labels or weights beside data that has them inside.
    """
    if isinstance(x, Subset):
        _check_alone("a Subset", y, sample_weight)
        return x
    found = stream(x, shuffle=shuffle, seed=seed)
    if found:
        _check_alone(f"a {found.kind}", y, sample_weight)
        return found
    if any(isinstance(leaf, tf.RaggedTensor | tf.SparseTensor) for leaf in tf.nest.flatten((x, y, sample_weight))):
        rows = keras.tree.lists_to_tuples(keras.utils.pack_x_y_sample_weight(x, y, sample_weight))
        return of_slices(rows, batch_size or 32, shuffle=shuffle, seed=seed)
    return passed(x, y, sample_weight)


def parted(data: Subset | Stream, validation_split: float) -> tuple[Subset, Subset]:
    """Cut off the last rows for the validation.

    Raises:
        ValueError: The data is no rows, or one side would have none.
    """
    if isinstance(data, Stream):
        raise ValueError(f"validation_split cuts rows, and x is a {data.kind}; pass validation_data")
    count = math.floor(len(data) * (1.0 - validation_split))
    if not 0 < count < len(data):
        raise ValueError(
            f"validation_split={validation_split!r} of {len(data)} rows leaves {count} to train on; expected at least "
            "one row on both sides"
        )
    return data.select(slice(None, count)), data.select(slice(count, None))


def default_batch_size(data: Subset | Stream, settings: Settings, replicas: Replicas) -> int:
    """Rows per step where nobody has said it: 32, or what gives an epoch its steps, as in Keras."""
    if isinstance(data, Stream) or settings.steps_per_epoch is None:
        return 32
    parts = replicas.count * settings.accumulate
    return math.ceil(len(data) / settings.steps_per_epoch / parts) * parts


def _check_alone(kind: str, y: Any, sample_weight: Any) -> None:
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            inside = {"y": "labels", "sample_weight": "weights"}[name]
            raise ValueError(f"{name} was passed beside {kind}, which holds the {inside} itself; leave {name} out")
