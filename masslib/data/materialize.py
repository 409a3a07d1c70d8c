"""`from_dataset`: read a `tf.data.Dataset` to its end into arrays, within a limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from masslib.data.arrays import from_arrays
from masslib.data.batches import whole
from masslib.data.subset import Subset

if TYPE_CHECKING:
    import tensorflow as tf

_BATCH = 256


def from_dataset(
    dataset: tf.data.Dataset,
    *,
    classes: Sequence[str] | None = None,
    scale: float | None = None,
    max_bytes: int = 2**31,
) -> Subset:
    """Reads a `tf.data.Dataset` of `(x, y)` to its end and makes a `Subset` of the arrays, as `from_arrays` does.

    Args:
        dataset: batches of rows, or single rows, if `y` is a scalar.
        classes: names of the classes.
        scale: as in `from_arrays`: by default 1/255 for uint8 images.
        max_bytes: limit of `x` and `y` in bytes. While they are put together, they take twice as much.

    Returns:
        A `Subset` of all rows, in their order.

    Raises:
        TypeError: no dataset, or one whose elements are no pairs of tensors.
        ValueError: the dataset is empty, endless or larger than `max_bytes`, or its rows have several shapes;
            and as `from_arrays`.

    Example:
        >>> import tensorflow as tf
        >>> dataset = tf.data.Dataset.from_tensor_slices((np.zeros((6, 8, 8, 1), np.uint8), [0, 1] * 3))
        >>> from_dataset(dataset.batch(4))
        Subset(6 rows of (8, 8, 1), uint8 x 0.003922, labels int32)
    """
    x, y = _arrays(dataset, max_bytes)
    return from_arrays(x, y, classes=classes, scale=scale)


def _arrays(dataset: tf.data.Dataset, max_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow as tf

    max_bytes = whole("max_bytes", max_bytes, 1)
    parts, size, count = [], 0, 0
    try:
        for x, y in _batched(dataset).as_numpy_iterator():
            size, count = size + x.nbytes + y.nbytes, count + len(x)
            if size > max_bytes:
                raise ValueError(
                    f"the dataset holds more than max_bytes={max_bytes:,}: {size:,} bytes by row {count:,}. Take fewer "
                    "rows with dataset.take(n), smaller or integer images, or pass a larger max_bytes."
                )
            parts.append((x, y))
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(f"the dataset cannot be read as rows of one shape: {error.message}") from error
    if not parts:
        raise ValueError("the dataset is empty, expected at least one row; was it cut, or its files not found?")
    shapes = sorted({x.shape[1:] for x, _ in parts})
    if len(shapes) > 1:
        raise ValueError(f"the rows have shapes {shapes}, expected one. Resize or crop them in dataset.map(...) first.")
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def _batched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset in batches, if it is one of pairs that ends."""
    import tensorflow as tf

    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(f"dataset is a {type(dataset).__name__}, expected a tf.data.Dataset; for arrays: from_arrays.")
    spec = dataset.element_spec
    if not (isinstance(spec, tuple) and len(spec) == 2 and all(isinstance(s, tf.TensorSpec) for s in spec)):
        raise TypeError(f"the dataset's elements are {spec}, expected pairs (x, y) of tensors. Map it to such pairs.")
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("the dataset never ends. Leave repeat() out, or cut it with dataset.take(n).")
    return dataset.batch(_BATCH) if spec[1].shape.rank == 0 else dataset
