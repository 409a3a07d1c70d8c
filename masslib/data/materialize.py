"""`from_dataset`: read a `tf.data.Dataset` to its end into arrays, within a limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from masslib._util.structures import flat
from masslib.data.arrays import from_arrays
from masslib.data.batches import whole
from masslib.data.ragged import ragged
from masslib.data.rows import nested
from masslib.data.subset import Subset

if TYPE_CHECKING:
    import tensorflow as tf

_BATCH = 256


def from_dataset(
    dataset: tf.data.Dataset,
    *,
    classes: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    scale: float | Mapping[str, float] | None = None,
    max_bytes: int = 2**31,
) -> Subset:
    """Reads a `tf.data.Dataset` to its end and makes a `Subset` of the arrays, as `from_arrays` does.

    Args:
        dataset: elements as `keras.Model.fit` takes them: `x`, `(x, y)` or `(x, y, sample_weight)`, each a tensor, or
            a dict or tuple of tensors, at any depth. Ragged tensors become `ragged` fields. The elements are batches
            of rows; they are single rows if one of the tensors is a scalar.
        classes: as in `from_arrays`.
        scale: as in `from_arrays`: by default 1/255 for uint8 images.
        max_bytes: limit of all rows in bytes. While they are put together, they take twice as much.

    Returns:
        A `Subset` of all rows, in their order.

    Raises:
        TypeError: no dataset, or one of other elements.
        ValueError: the dataset is empty, endless or larger than `max_bytes`, or its rows have several shapes;
            and as `from_arrays`.

    Example:
        >>> import tensorflow as tf
        >>> dataset = tf.data.Dataset.from_tensor_slices((np.zeros((6, 8, 8, 1), np.uint8), [0, 1] * 3))
        >>> from_dataset(dataset.batch(4))
        Subset(6 rows of (8, 8, 1), uint8 x 0.003922, labels int32)
        >>> pairs = tf.data.Dataset.from_tensor_slices(({"age": [30, 50], "size": [1.6, 1.8]}, [0, 1], [1.0, 0.5]))
        >>> from_dataset(pairs).sample_weight
        array([1. , 0.5], dtype=float32)
    """
    x, *rest = _arrays(_batched(dataset), whole("max_bytes", max_bytes, 1))
    return from_arrays(x, *rest, classes=classes, scale=scale)


def _arrays(dataset: tf.data.Dataset, max_bytes: int) -> tuple[Any, ...]:
    """The structures `x`, `y` and `sample_weight`, as far as there are such, of arrays and ragged rows."""
    import tensorflow as tf

    parts: list[list[Any]] = [[] for _ in flat(dataset.element_spec)]
    size = count = 0
    try:
        for element in dataset:
            values = [_rows(value) for value in flat(element)]
            size, count = size + sum(map(_bytes, values)), count + len(values[0])
            if size > max_bytes:
                raise ValueError(
                    f"the dataset holds more than max_bytes={max_bytes:,}: {size:,} bytes by row {count:,}. Take fewer "
                    "rows with dataset.take(n), smaller or integer images, or pass a larger max_bytes."
                )
            for part, value in zip(parts, values, strict=True):
                part.append(value)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(
            f"the dataset cannot be read as rows of one shape: {error.message}. Rows of varying length are read from "
            "dataset.ragged_batch(n)."
        ) from error
    if not count:
        raise ValueError("the dataset is empty, expected at least one row; was it cut, or its files not found?")
    joined = map(_joined, parts)
    structure = nested(lambda _: next(joined), dataset.element_spec)
    return structure if isinstance(structure, tuple) else (structure,)


def _rows(value: Any) -> Any:
    """An array, or a list of arrays of varying length."""
    if not hasattr(value, "row_splits"):
        return value.numpy()
    splits = value.row_splits.numpy()
    return np.split(value.values.numpy(), splits[1:-1]) if len(splits) > 1 else []


def _bytes(values: Any) -> int:
    if isinstance(values, list):
        return sum(row.nbytes for row in values)
    return sum(map(len, values.flat)) if values.dtype.kind == "O" else values.nbytes


def _joined(parts: list[Any]) -> Any:
    if isinstance(parts[0], list):
        return ragged([row for rows in parts for row in rows])
    shapes = sorted({part.shape[1:] for part in parts})
    if len(shapes) > 1:
        raise ValueError(
            f"the rows have shapes {shapes}, expected one. Resize or crop them in dataset.map(...) first, or give rows "
            "of varying length as ragged tensors, e.g. by dataset.unbatch().ragged_batch(n)."
        )
    return np.concatenate(parts)


def _batched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset in batches, if it is one that ends of elements as Keras takes them."""
    import tensorflow as tf

    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(f"dataset is a {type(dataset).__name__}, expected a tf.data.Dataset; for arrays: from_arrays.")
    spec = dataset.element_spec
    specs = flat(spec)
    if (isinstance(spec, tuple) and len(spec) > 3) or not all(_is_readable(part) for part in specs):
        raise TypeError(
            f"the dataset's elements are {spec}, expected x, (x, y) or (x, y, sample_weight), each a tensor, or a dict "
            "or tuple of tensors that are dense, or ragged in one axis. Map it to such elements."
        )
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("the dataset never ends. Leave repeat() out, or cut it with dataset.take(n).")
    return dataset.batch(_BATCH) if any(part.shape.rank == 0 for part in specs) else dataset


def _is_readable(spec: Any) -> bool:
    """Whether this is a dense tensor, or one whose rows vary in their length alone."""
    import tensorflow as tf

    return isinstance(spec, tf.TensorSpec) or (isinstance(spec, tf.RaggedTensorSpec) and spec.ragged_rank <= 1)
