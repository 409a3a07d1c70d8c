"""What goes into a runtime and comes out of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def sizes(shape: Sequence[Any]) -> tuple[int | None, ...]:
    """A shape with None for every open size, which runtimes write as -1 or as a name."""
    return tuple(int(size) if isinstance(size, int | np.integer) and size >= 0 else None for size in shape)


def dtype_of(name: Any, what: str, path: Path) -> np.dtype:
    """NumPy's type for what a file takes or answers: float32 for bfloat16, which NumPy lacks, object for strings."""
    if str(name) == "bfloat16":
        return np.dtype("float32")
    try:
        dtype = np.dtype("O" if str(name) == "string" else name)
    except TypeError:
        dtype = np.dtype("V")
    if dtype.kind in "OSU":
        return np.dtype(object)
    if dtype.kind not in "fiub":
        raise ValueError(f"{path} {what} {name}; predict works on models of numbers, booleans and strings")
    return dtype


def plain(dtype: np.dtype) -> np.dtype:
    """Floats of half precision are answered as float32."""
    return np.dtype("float32") if dtype == np.float16 else dtype


def converted(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """An array in the type that a file takes; nothing but the fractions of floats may be rounded.

    Raises:
        TypeError: If it does not hold numbers, or strings where these are wanted.
        ValueError: If a number becomes another one, or is NaN or infinite.
    """
    if dtype.kind == "O":
        if not (x.dtype.kind in "SU" or all(isinstance(value, str | bytes) for value in x.flat)):
            raise TypeError(f"expected an array of strings, got dtype {x.dtype}")
        return x.astype(object)
    if x.dtype.kind not in "fiub":
        raise TypeError(f"expected an array of numbers, got dtype {x.dtype}")
    if x.dtype == dtype and dtype.kind != "f":
        return np.asarray(x, order="C")
    with np.errstate(invalid="ignore", over="ignore"):
        changed = np.asarray(x, dtype, order="C")
    if x.dtype.kind != "f" and not np.can_cast(x.dtype, dtype):
        _check_same(x, changed)
    if dtype.kind == "f":
        # The sum of squares takes half the time; it is finite only if all is, but may overflow when all is finite.
        if not (math.isfinite(np.vdot(changed, changed)) or np.isfinite(changed).all()):
            raise ValueError("the input holds NaN or infinity; clean it first")
    elif x.dtype.kind == "f":
        if not np.isfinite(x).all():
            raise ValueError("the input holds NaN or infinity; clean it first")
        _check_same(x, changed)
    return changed


def _check_same(x: np.ndarray, changed: np.ndarray) -> None:
    # Compared in the type of x: 2**24 + 1 and its float32 are equal as floats.
    with np.errstate(invalid="ignore"):
        different = x != changed.astype(x.dtype)
    if different.any():
        raise ValueError(
            f"the input holds {x[different].flat[0]}, which the {changed.dtype} that the model takes cannot hold; "
            "convert it yourself if rounding is meant"
        )
