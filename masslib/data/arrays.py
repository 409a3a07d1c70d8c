"""`from_arrays`: check inputs and labels once, so that nothing behind it has to."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from masslib.data.rows import ArrayRows
from masslib.data.subset import Subset


def from_arrays(x: Any, y: Any = None, *, classes: Sequence[str] | None = None, scale: float | None = None) -> Subset:
    """Makes a `Subset` of arrays (or of what NumPy makes arrays of: lists, data frames, tensors).

    Shapes stay as they are: images without a channel, `(n, h, w)`, get one with `x[..., None]`. So do whole numbers
    and booleans; floats become float32, those of 2 bytes when they are read. Nothing else is copied.

    Args:
        x: `(n, ...)`: rows of columns, images, series, whole numbers such as ids of words, or strings.
        y: `(n, ...)`: numbers of classes, quantities, one column per label or output, masks or images; None for
            networks that learn without labels.
        classes: names of the classes; then whole numbers must be below their number.
        scale: factor for the inputs, which become float32; by default 1/255 for uint8 of 3 or more dimensions, else
            None.

    Returns:
        A `Subset` of all rows, in their order.

    Raises:
        TypeError: values of another kind; `classes` is a string, or `scale` no number.
        ValueError: no rows, unequal counts, NaN or infinity, labels out of range.

    Example:
        >>> from_arrays([[0.5, 1.5], [2.5, 3.5]], [0, 1], classes=["no", "yes"])
        Subset(2 rows of (2,), float32, labels int64, 2 classes)
    """
    inputs = _inputs(x)
    names = _names(classes)
    labels = None if y is None else _labels(y, names)
    if labels is not None and len(inputs) != len(labels):
        raise ValueError(f"x has {len(inputs)} rows but y has {len(labels)}; expected one label per row.")
    if scale is None:
        scale = 1 / 255 if inputs.dtype == np.uint8 and inputs.ndim >= 3 else 1
    elif isinstance(scale, bool) or not isinstance(scale, numbers.Real):
        raise TypeError(f"scale is {scale!r}, expected a number such as 1/255, or None.")
    elif not np.isfinite(scale) or scale == 0:
        raise ValueError(f"scale is {scale!r}, expected a finite number other than 0.")
    elif inputs.dtype.kind not in "biuf":
        raise ValueError(f"scale is {scale!r}, but x has dtype {inputs.dtype}; only numbers can be scaled.")
    return Subset(ArrayRows(inputs, scale), labels, names)


def _inputs(x: Any) -> np.ndarray:
    array = _array("x", x)
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"x has shape {array.shape}, expected (n, ...) with at least one row and value.")
    if array.dtype.kind in "OSU":
        if array.dtype.kind == "O" and not all(isinstance(value, str | bytes) for value in array.flat):
            raise TypeError(
                "x has dtype object, expected numbers, booleans or strings. Encode columns of several kinds first, "
                "e.g. with sklearn.preprocessing.OrdinalEncoder, or pass pandas columns through .to_numpy('float32')."
            )
        return array
    return _finite("x", array)


def _labels(y: Any, names: list[str] | None) -> np.ndarray:
    array = _array("y", y)
    if array.dtype.kind in "OSU":
        raise TypeError(
            f"y has dtype {array.dtype}, expected numbers. Number the classes, e.g. with "
            "sklearn.preprocessing.LabelEncoder."
        )
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"y has shape {array.shape}, expected (n, ...) with at least one row and value.")
    if array.dtype.kind == "f":
        return _finite("y", array.astype(np.float32, copy=False))
    if names:
        _check_named(array, len(names))
    return array


def _check_named(labels: np.ndarray, count: int) -> None:
    wrong = np.argwhere((labels < 0) | (labels >= count))
    if len(wrong):
        raise ValueError(
            f"y holds label {labels[tuple(wrong[0])]} in row {wrong[0][0]} ({len(wrong)} such labels), expected 0 to "
            f"{count - 1}, for classes has {count} names. Number the classes from 0, e.g. with "
            "sklearn.preprocessing.LabelEncoder."
        )


def _array(name: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of unequal lengths
        raise ValueError(f"{name} is no array: {error}") from error
    if array.dtype.kind not in "biufOSU":
        raise TypeError(f"{name} has dtype {array.dtype}, expected real numbers, booleans or strings.")
    return array.astype(array.dtype.newbyteorder("="), copy=False)  # TensorFlow knows no other


def _finite(name: str, array: np.ndarray) -> np.ndarray:
    """The array, whose floats are finite as float32."""
    if array.dtype.kind != "f":
        return array
    if array.dtype.itemsize > 4:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
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
