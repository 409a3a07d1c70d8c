"""Arrays as `keras.Model.fit` takes them: what a user passes is what the network gets."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from masslib.data.rows import ArrayRows, NestedRows, nested
from masslib.data.subset import Subset


def as_subset(data: Any) -> Subset:
    """Makes a `Subset` of a pair `(x, y)`; one that is passed comes back as it is.

    Raises:
        TypeError: `data` is neither.
        ValueError: as `passed`.
    """
    if isinstance(data, Subset):
        return data
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise TypeError(f"data is a {type(data).__name__}; expected a Subset or a pair (x, y)")
    return passed(*data)


def passed(x: Any, y: Any = None) -> Subset:
    """Makes a `Subset` of arrays, or of dicts and lists of them, for networks with several inputs or outputs.

    Nothing is reshaped, scaled or checked. Floats get Keras' `floatx`, whole numbers, booleans and strings stay, a
    `pandas.Series` becomes a column: as in Keras.

    Raises:
        TypeError: something that is no array.
        ValueError: unequal counts of rows.
    """
    inputs = nested(functools.partial(_array, "x"), _whole(x))
    labels = nested(functools.partial(_array, "y"), _whole(y))
    if inputs is None:
        raise TypeError("x is None; expected a Subset, a tf.data.Dataset or arrays")
    counts = {name: sorted({len(array) for array in _leaves(part)}) for name, part in (("x", inputs), ("y", labels))}
    if len({count for several in counts.values() for count in several}) != 1:
        found = {name: several[0] if len(several) == 1 else several for name, several in counts.items() if several}
        raise ValueError(f"the arrays have different numbers of rows: {found}; expected as many in each")
    rows = nested(lambda array: ArrayRows(array, 1), inputs)
    return Subset(NestedRows(rows) if isinstance(rows, dict | tuple) else rows, labels)


def _whole(values: Any) -> Any:
    """Lists of numbers, at any depth, as one array; of a list of arrays each is an input of its own."""
    if isinstance(values, list | tuple) and all(np.isscalar(value) for value in _leaves(values)):
        return np.asarray(values)
    return values


def _leaves(value: Any) -> list[Any]:
    leaves: list[Any] = []
    nested(leaves.append, value)
    return leaves


def _array(name: str, values: Any) -> np.ndarray:
    import keras

    floatx = keras.config.floatx()
    if hasattr(values, "columns") and hasattr(values, "to_numpy"):  # a DataFrame has one dtype, as Keras reads it
        floats = any(np.issubdtype(kind, np.floating) for kind in values.dtypes if isinstance(kind, np.dtype))
        array = values.to_numpy(floatx) if floats else values.to_numpy()
    elif hasattr(values, "iloc"):
        array = values.to_numpy()[:, np.newaxis]
    elif hasattr(values, "__array__"):
        array = np.asarray(values)
    else:
        raise TypeError(
            f"{name} holds a {type(values).__name__}; expected a Subset, a tf.data.Dataset or arrays. Sparse and "
            "ragged rows go into a dataset: tf.data.Dataset.from_tensor_slices((x, y)).batch(32)."
        )
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}, expected (n, ...) with at least one row and value")
    if array.dtype.kind == "O" and not all(isinstance(value, str | bytes) for value in array.flat):
        raise TypeError(
            f"{name} has dtype object, expected numbers, booleans or strings. Encode columns of several kinds first, "
            "e.g. with sklearn.preprocessing.OrdinalEncoder."
        )
    if array.dtype.kind in "fV" and array.dtype != floatx:
        array = array.astype(floatx)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
