"""`from_arrays`: check inputs, labels and weights once, so that nothing behind it has to."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from masslib.data import fields
from masslib.data.rows import ArrayRows, Rows
from masslib.data.subset import Subset


def from_arrays(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    classes: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    scale: float | Mapping[str, float] | None = None,
) -> Subset:
    """Makes a `Subset` of arrays (or of what NumPy makes arrays of: lists, data frames, tensors).

    Each argument may be a dict, list or tuple of arrays, at any depth, as in `keras.Model.fit`: a network with several
    inputs or outputs gets them in that structure. A list of numbers is one array. A field may also lie in files, see
    `Rows`.

    Shapes stay as they are: images without a channel, `(n, h, w)`, get one with `x[..., None]`. So do whole numbers
    and booleans; floats become float32, those of 2 bytes when they are read. Nothing else is copied.

    Args:
        x: `(n, ...)`: rows of columns, images, series, whole numbers such as ids of words, or strings.
        y: `(n, ...)`: numbers of classes, quantities, one column per label or output, masks or images; None for
            networks that learn without labels.
        sample_weight: `(n,)` weights of the rows in the loss, `(n, ...)` of their steps or pixels; for several labels
            one array, or one for each.
        classes: names of the classes; then whole numbers must be below their number. Of several labels in their
            structure, `{"animal": ["cat", "dog"]}`.
        scale: factor for the inputs, which become float32; by default 1/255 for uint8 of 3 or more dimensions, else
            None. Of several inputs in their structure, `{"image": 1 / 127.5}`.

    Returns:
        A `Subset` of all rows, in their order.

    Raises:
        TypeError: values of another kind; `classes` is a string, or `scale` no number.
        ValueError: no rows, unequal counts, NaN or infinity, labels out of range; options for fields that there are
            not; weights without labels, or in another structure than theirs.

    Example:
        >>> from_arrays([[0.5, 1.5], [2.5, 3.5]], [0, 1], classes=["no", "yes"])
        Subset(2 rows of (2,), float32, labels int64, 2 classes)
        >>> from_arrays({"photo": np.zeros((2, 8, 8, 3), np.uint8), "age": [30, 50]}, {"price": [1.5, 2.5]}).input_shape
        {'photo': (8, 8, 3), 'age': ()}
    """
    inputs = fields.as_rows("x", x, _inputs, scale)
    if inputs is None:
        raise TypeError("x is None, expected an array (n, ...), or a dict, list or tuple of arrays.")
    names = _names(classes)
    labels = fields.as_rows("y", y, _labels, names)
    return fields.subset(inputs, labels, fields.as_rows("sample_weight", sample_weight, _weights), names)


def _inputs(name: str, x: Any, scale: Any) -> Rows:
    array = _array(name, x)
    text = array.dtype.kind in "OSU"
    if array.dtype.kind == "O" and not all(isinstance(value, str | bytes) for value in array.flat):
        raise TypeError(
            f"{name} has dtype object, expected numbers, booleans or strings. Encode columns of several kinds first, "
            "e.g. with sklearn.preprocessing.OrdinalEncoder, or pass pandas columns through .to_numpy('float32')."
        )
    if scale is None:
        is_image = array.dtype == np.uint8 and array.ndim >= 3
        scale = 1 / 255 if is_image else 1 if array.dtype == np.float16 else None
    elif isinstance(scale, bool) or not isinstance(scale, numbers.Real):
        raise TypeError(f"scale is {scale!r}, expected a number such as 1/255, or None.")
    elif not np.isfinite(scale) or scale == 0:
        raise ValueError(f"scale is {scale!r}, expected a finite number other than 0.")
    elif array.dtype.kind not in "biuf":
        raise ValueError(f"scale is {scale!r}, but {name} has dtype {array.dtype}; only numbers can be scaled.")
    return ArrayRows(array if text else _finite(name, array), scale)


def _labels(name: str, y: Any, names: Any) -> Rows:
    array = _array(name, y)
    if array.dtype.kind in "OSU":
        raise TypeError(
            f"{name} has dtype {array.dtype}, expected numbers. Number the classes, e.g. with "
            "sklearn.preprocessing.LabelEncoder."
        )
    if array.dtype.kind == "f":
        return ArrayRows(_finite(name, array.astype(np.float32, copy=False)))
    if names:
        _check_named(name, array, names)
    return ArrayRows(array)


def _check_named(name: str, labels: np.ndarray, names: Any) -> None:
    if not isinstance(names, list):
        raise ValueError(f"classes is {names!r}, but {name} is one array; expected a list of names.")
    wrong = np.argwhere((labels < 0) | (labels >= len(names)))
    if len(wrong):
        raise ValueError(
            f"{name} holds label {labels[tuple(wrong[0])]} in row {wrong[0][0]} ({len(wrong)} such labels), expected 0 "
            f"to {len(names) - 1}, for classes has {len(names)} names. Number the classes from 0, e.g. with "
            "sklearn.preprocessing.LabelEncoder."
        )


def _weights(name: str, weights: Any, _: Any) -> Rows:
    array = _array(name, weights)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} has dtype {array.dtype}, expected numbers.")
    return ArrayRows(_finite(name, array.astype(np.float32, copy=False)))


def _array(name: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of unequal lengths
        raise ValueError(f"{name} is no array: {error}") from error
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}, expected (n, ...) with at least one row and value.")
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind not in "biufcOSU":
        raise TypeError(f"{name} has dtype {array.dtype}, expected numbers, booleans or strings.")
    return array.astype(array.dtype.newbyteorder("="), copy=False)  # TensorFlow knows no other


def _finite(name: str, array: np.ndarray) -> np.ndarray:
    """The array, whose floats are finite as float32 (complex64)."""
    if array.dtype.kind not in "fc":
        return array
    single = np.dtype(np.float32 if array.dtype.kind == "f" else np.complex64)
    if array.dtype.itemsize > single.itemsize:
        with np.errstate(over="ignore"):
            array = array.astype(single)
    wrong = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
    if len(wrong):
        raise ValueError(
            f"{name} holds NaN or infinity (as float32) in {len(wrong)} rows, first in row {wrong[0]}; "
            "expected finite numbers. Drop or impute these rows, e.g. with sklearn.impute.SimpleImputer."
        )
    return array


def _names(classes: Any) -> Any:
    """The names of the classes as a list; those of several labels in their structure."""
    if classes is None:
        return None
    if isinstance(classes, Mapping):
        return {label: _names(names) for label, names in classes.items()}
    if isinstance(classes, list | tuple) and any(names is None or isinstance(names, list | tuple) for names in classes):
        return tuple(_names(names) for names in classes)
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
        raise TypeError(f"classes is {classes!r}, expected a list of names such as ['cat', 'dog'], or None.")
    if not len(classes):
        raise ValueError("classes is empty, expected at least one name, or None.")
    return list(classes)
