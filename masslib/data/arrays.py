"""`from_arrays`: check inputs and labels once, so that nothing behind it has to."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from masslib.data.rows import ArrayRows
from masslib.data.subset import Subset


def from_arrays(x: Any, y: Any, *, classes: Sequence[str] | None = None, scale: float | None = None) -> Subset:
    """Makes a `Subset` of arrays (or of what NumPy makes arrays of: lists, data frames, tensors).

    Inputs of up to 2 bytes per value and float32 stay as they are, and are not copied; they become float32
    when they are read. All others become float32 at once.

    Args:
        x: `(n, k)` columns, `(n, h, w)` or `(n, h, w, c)` images, or more dimensions. Three dimensions are
            always taken for images and become `(n, h, w, 1)`.
        y: integers or booleans `(n,)` for classes (`(n, 1)` is taken too), floats `(n,)` or `(n, k)` for
            regression.
        classes: names of the classes; then labels must be below their number.
        scale: factor for the inputs; by default 1/255 for uint8 of 3 or more dimensions, else 1.

    Returns:
        A `Subset` of all rows, in their order.

    Raises:
        TypeError: values that are no real numbers; `classes` is a string, or `scale` no number.
        ValueError: no rows, unequal counts, NaN or infinity, labels out of range, one-hot integer labels.

    Example:
        >>> from_arrays([[0.5, 1.5], [2.5, 3.5]], [0, 1], classes=["no", "yes"])
        Subset(2 rows of (2,), float32, labels int32, 2 classes)
    """
    inputs = _inputs(x)
    names = _names(classes)
    labels = _labels(y, names)
    if len(inputs) != len(labels):
        raise ValueError(f"x has {len(inputs)} rows but y has {len(labels)}; expected one label per row.")
    if scale is None:
        scale = 1 / 255 if inputs.dtype == np.uint8 and inputs.ndim >= 3 else 1
    elif isinstance(scale, bool) or not isinstance(scale, numbers.Real):
        raise TypeError(f"scale is {scale!r}, expected a number such as 1/255, or None.")
    elif not np.isfinite(scale) or scale == 0:
        raise ValueError(f"scale is {scale!r}, expected a finite number other than 0.")
    return Subset(ArrayRows(inputs[..., np.newaxis] if inputs.ndim == 3 else inputs, scale), labels, names)


def as_subset(data: Any) -> Subset:
    """Makes a `Subset` of a pair `(x, y)`, unscaled as in Keras; one that is passed comes back as it is."""
    if isinstance(data, Subset):
        return data
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise TypeError(f"data is a {type(data).__name__}; expected a Subset or a pair (x, y)")
    return from_arrays(*data, scale=1)


def _inputs(x: Any) -> np.ndarray:
    array = _numbers("x", x)
    if array.ndim < 2 or array.size == 0:
        raise ValueError(
            f"x has shape {array.shape}, expected (n, k) columns or (n, h, w[, c]) images with at least one "
            "row and value. Reshape one column with x.reshape(-1, 1)."
        )
    if array.dtype.itemsize > 2 and array.dtype != np.float32:
        with np.errstate(over="ignore"):  # reported as infinity below
            array = array.astype(np.float32)
    return _finite("x", array)


def _labels(y: Any, names: list[str] | None) -> np.ndarray:
    array = _numbers("y", y)
    if array.dtype.kind == "f":
        if array.ndim not in (1, 2) or array.size == 0:
            raise ValueError(f"y has shape {array.shape}, expected (n,) or (n, k) floats.")
        with np.errstate(over="ignore"):
            return _finite("y", array.astype(np.float32))
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2:
        raise ValueError(
            f"y has shape {array.shape} of {array.dtype}, expected class numbers (n,). If it is one-hot, "
            "pass y.argmax(axis=1); for regression with several targets pass floats."
        )
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"y has shape {array.shape}, expected (n,) class numbers.")
    top = len(names) if names else np.iinfo(np.int32).max
    wrong = np.flatnonzero((array < 0) | (array >= top))
    if len(wrong):
        raise ValueError(
            f"y holds label {array[wrong[0]]} in row {wrong[0]} ({len(wrong)} such rows), expected 0 to "
            f"{top - 1}. Number the classes from 0, e.g. with sklearn.preprocessing.LabelEncoder."
        )
    return array.astype(np.int32)


def _numbers(name: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of unequal lengths
        raise ValueError(f"{name} is no array: {error}") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"{name} has dtype {array.dtype}, expected real numbers. Encode text and categories first, e.g. "
            "with sklearn.preprocessing.OrdinalEncoder, or pass pandas columns through .to_numpy('float32')."
        )
    return array.astype(array.dtype.newbyteorder("="), copy=False)  # TensorFlow knows no other


def _finite(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "f":
        wrong = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
        if len(wrong):
            raise ValueError(
                f"{name} holds NaN or infinity (as float32) in {len(wrong)} rows, first in row {wrong[0]}; "
                "expected finite numbers. Drop or impute these rows, e.g. with sklearn.impute.SimpleImputer."
            )
    return array


def _names(classes: Sequence[str] | None) -> list[str] | None:
    if classes is None:
        return None
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
        raise TypeError(f"classes is {classes!r}, expected a list of names such as ['cat', 'dog'], or None.")
    if not len(classes):
        raise ValueError("classes is empty, expected at least one name, or None.")
    return list(classes)
