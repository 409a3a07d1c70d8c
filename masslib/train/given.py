"""The data that a user passes to `fit`, as rows that are ours to cut or as batches that are not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from masslib.data import Subset
from masslib.data.passed import passed
from masslib.train.replicas import Replicas
from masslib.train.settings import Settings
from masslib.train.streams import Stream, stream


@dataclass(frozen=True)
class Table:
    """Rows with labels and, where `weighted`, weights."""

    subset: Subset
    weighted: bool = False

    def __len__(self) -> int:
        return len(self.subset)

    def __getitem__(self, rows: slice) -> Any:
        """Return a batch as Keras packs it."""
        x, y = self.subset[rows]
        return (x, *y) if self.weighted else keras.utils.pack_x_y_sample_weight(x, y)

    @property
    def y(self) -> Any:
        """The labels."""
        return self.subset.y[0] if self.weighted else self.subset.y

    def batches(self, batch_size: int, **options: Any) -> tf.data.Dataset:
        """See `Subset.batches`."""
        batches = self.subset.batches(batch_size, **options)
        return batches.map(lambda x, rest: (x, *rest)) if self.weighted else batches

    def split(self, validation_split: float) -> tuple[Table, Table]:
        """Cut off the last rows.

        Raises:
            ValueError: One side has no row.
        """
        count = math.floor(len(self) * (1.0 - validation_split))
        if not 0 < count < len(self):
            raise ValueError(
                f"validation_split={validation_split!r} of {len(self)} rows leaves {count} to train on; expected at "
                "least one row on both sides"
            )
        parts = slice(None, count), slice(count, None)
        train, valid = (Table(self.subset.select(rows), self.weighted) for rows in parts)
        return train, valid


def given(x: Any, y: Any = None, sample_weight: Any = None, *, shuffle: bool = False, seed: int = 0) -> Table | Stream:
    """Tell rows from batches; what Keras takes as x, y and sample_weight is taken.

    Raises:
        TypeError: Data of another kind.
        ValueError: Unequal counts of rows; labels or weights beside data that has them inside.
    """
    if isinstance(x, Subset):
        _check_alone("a Subset", y, sample_weight)
        return Table(x)
    found = stream(x, shuffle=shuffle, seed=seed)
    if found:
        _check_alone(f"a {found.kind}", y, sample_weight)
        return found
    if sample_weight is None:
        return Table(passed(x, y))
    if y is None:
        raise ValueError("sample_weight was passed without y; expected labels, whose rows it weighs")
    return Table(passed(x, (y, _one_for_each(y, sample_weight))), weighted=True)


def parted(data: Table | Stream, validation_split: float) -> tuple[Table, Table]:
    """Cut off the last rows for the validation.

    Raises:
        ValueError: The data is no rows, or one side would have none.
    """
    if isinstance(data, Stream):
        raise ValueError(f"validation_split cuts rows, and x is a {data.kind}; pass validation_data")
    return data.split(validation_split)


def default_batch_size(data: Table | Stream, settings: Settings, replicas: Replicas) -> int:
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


def _one_for_each(y: Any, sample_weight: Any) -> Any:
    """The weights of every output: those of the rows, if one array was passed for several outputs."""
    if not _is_nested(y):
        return sample_weight
    if _is_nested(sample_weight):
        try:
            keras.tree.assert_same_structure(y, sample_weight)
        except (TypeError, ValueError):
            raise ValueError(
                f"sample_weight has the structure {_shown(sample_weight)}, y {_shown(y)}; expected one array, or one "
                "for each output"
            ) from None
        return sample_weight
    shape = getattr(sample_weight, "shape", (len(sample_weight),))
    if len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
        raise ValueError(
            f"sample_weight has shape {tuple(shape)}, and there are several outputs; expected (n,), or one for each"
        )
    return keras.tree.map_structure(lambda labels: sample_weight, y)


def _is_nested(value: Any) -> bool:
    if isinstance(value, dict):
        return True
    leaves = keras.tree.flatten(value) if isinstance(value, list | tuple) else []
    return any(hasattr(leaf, "shape") and len(leaf.shape) for leaf in leaves)


def _shown(value: Any) -> Any:
    return keras.tree.map_structure(lambda leaf: tuple(getattr(leaf, "shape", ())), value)
