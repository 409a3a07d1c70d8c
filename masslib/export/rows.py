"""Rows of the user's data, to calibrate a file with and to check it on."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from masslib.export.endpoints import Endpoint
from masslib.runtime.arrays import converted, dtype_of
from masslib.runtime.signature import arranged

# Standardized columns stay below this; pixels of 0-255 do not.
_USUAL = 20.0


def calibration(rows: Any, endpoint: Endpoint) -> dict[str, np.ndarray]:
    """Return the calibration rows by name as the model takes them, or raise when their ranges would be nonsense.

    Args:
        rows: `(n, *input_shape)`, in the structure of the inputs.
        endpoint: Tells shapes and types; numbers of words have no ranges that could look odd.

    Raises:
        TypeError: If they are not what the model takes.
        ValueError: If there are none, or they have another shape, or hold NaN or infinity.
    """
    if rows is None or (isinstance(rows, np.ndarray | list) and not len(rows)):
        raise ValueError("there are no calibration rows; int8 and int16x8 measure the ranges of activations on some")
    fitting = _fitting(rows, endpoint, "calibration rows")
    for name, array in fitting.items():
        if array.dtype.kind == "f":
            _warn_of_odd_ranges(array, f" of input {name!r}" if len(fitting) > 1 else "")
    return fitting


def examples(rows: Any, endpoint: Endpoint) -> dict[str, np.ndarray] | None:
    """Return the rows that a file is to be checked on, or raise as for the calibration rows."""
    return None if rows is None else _fitting(rows, endpoint, "example_inputs")


def _fitting(rows: Any, endpoint: Endpoint, what: str) -> dict[str, np.ndarray]:
    try:
        named = arranged(rows, endpoint.takes)
    except ValueError as error:
        raise ValueError(f"the {what} do not fit {endpoint.title}: {error}") from error
    several = len(named) > 1
    fitting = {
        name: _checked(np.asarray(array), endpoint.specs[name], f"{what}{f' of input {name!r}' if several else ''}")
        for name, array in named.items()
    }
    counts = {name: len(array) for name, array in fitting.items() if endpoint.specs[name].shape.rank}
    if len(set(counts.values())) > 1 and not callable_alone(endpoint):
        raise ValueError(f"the {what} have different numbers of rows: {counts}")
    return fitting


def callable_alone(endpoint: Endpoint) -> bool:
    """Whether the inputs of a function are no rows, such as a position beside a state."""
    return len({tuple(spec.shape[:1]) for spec in endpoint.specs.values()}) > 1


def _checked(rows: np.ndarray, spec: tf.TensorSpec, what: str) -> np.ndarray:
    """The rows of one input in its type."""
    shape = tuple(spec.shape[1:])
    dtype = dtype_of(spec.dtype.name, "takes", Path(spec.name))
    if rows.dtype.kind not in ("OSU" if dtype.kind == "O" else "fiub"):
        raise TypeError(f"the {what} have dtype {rows.dtype}; expected {'strings' if dtype.kind == 'O' else 'numbers'}")
    fits = rows.ndim == spec.shape.rank and all(
        want in (None, got) for want, got in zip(shape, rows.shape[1:], strict=True)
    )
    if not fits or (rows.ndim and not len(rows)):
        raise ValueError(f"the {what} have shape {rows.shape}; the model takes (n, *{shape})")
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise ValueError(f"{int((~np.isfinite(rows)).sum())} values of the {what} are NaN or infinite; clean the data")
    return converted(rows, dtype)


def _warn_of_odd_ranges(rows: np.ndarray, which: str) -> None:
    low, high = float(rows.min()), float(rows.max())
    if low == high:
        problem = f"are constant ({low:g})"
    elif max(-low, high) > _USUAL:
        problem = f"range from {low:g} to {high:g}, which looks unnormalised"
    else:
        return
    warnings.warn(
        f"the calibration rows{which} {problem}; the int8 ranges fit only inputs like them, so calibrate with the data "
        "the model was trained on",
        stacklevel=5,
    )
