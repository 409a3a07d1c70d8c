"""Arrays as `keras.Model.fit` takes them: what a user passes is what the network gets."""

from __future__ import annotations

from typing import Any

import numpy as np

from masslib.data import fields
from masslib.data.rows import ArrayRows, Rows
from masslib.data.subset import Subset


def as_subset(data: Any) -> Subset:
    """Makes a `Subset` of `(x, y)` or `(x, y, sample_weight)`; one that is passed comes back as it is.

    Raises:
        TypeError: `data` is neither.
        ValueError: as `passed`.
    """
    if isinstance(data, Subset):
        return data
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise TypeError(
            f"data is a {type(data).__name__}; expected a Subset or a pair (x, y), with weights (x, y, sample_weight)"
        )
    return passed(*data)


def passed(x: Any, y: Any = None, sample_weight: Any = None) -> Subset:
    """Makes a `Subset` of arrays, or of dicts and lists of them, for networks with several inputs or outputs.

    Nothing is reshaped, scaled or checked. Floats get Keras' `floatx`, whole numbers, booleans and strings stay, a
    `pandas.Series` becomes a column: as in Keras.

    Raises:
        TypeError: something that is no array.
        ValueError: unequal counts of rows; weights without labels, or in another structure than theirs.
    """
    inputs = fields.as_rows("x", x, _rows)
    if inputs is None:
        raise TypeError("x is None; expected a Subset, a tf.data.Dataset or arrays")
    return fields.subset(inputs, fields.as_rows("y", y, _rows), fields.as_rows("sample_weight", sample_weight, _rows))


def _rows(name: str, values: Any, _: Any) -> Rows:
    import keras

    floatx = keras.config.floatx()
    if hasattr(values, "columns") and hasattr(values, "to_numpy"):  # a DataFrame has one dtype, as Keras reads it
        floats = any(np.issubdtype(kind, np.floating) for kind in values.dtypes if isinstance(kind, np.dtype))
        array = values.to_numpy(floatx) if floats else values.to_numpy()
    elif hasattr(values, "iloc"):
        array = values.to_numpy()[:, np.newaxis]
    elif hasattr(values, "__array__") or isinstance(values, list | tuple):
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
    return ArrayRows(array.astype(array.dtype.newbyteorder("="), copy=False))
