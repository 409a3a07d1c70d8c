"""Structures: arrays in dicts, lists and tuples at any depth, as Keras takes them, without importing Keras."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_DEEPEST = 32


def mapped(change: Callable[[Any], Any], structure: Any) -> Any:
    """Apply a function to every leaf, None apart.

    Example:
        >>> mapped(len, {"a": "one", "b": ("three", None)})
        {'a': 3, 'b': (5, None)}
    """
    if isinstance(structure, Mapping):
        return {key: mapped(change, part) for key, part in structure.items()}
    if isinstance(structure, list | tuple):
        parts = [mapped(change, part) for part in structure]
        return parts if isinstance(structure, list) else tuple(parts)
    return None if structure is None else change(structure)


def flat(structure: Any) -> list[Any]:
    """The leaves in their order, None apart.

    Example:
        >>> flat({"a": 1, "b": (2, None, [3])})
        [1, 2, 3]
    """
    leaves: list[Any] = []
    mapped(leaves.append, structure)
    return leaves


def encoded(names: Any) -> Any:
    """A structure of names as JSON can hold it, lists and tuples kept apart.

    Example:
        >>> encoded({"a": "x", "b": ("y", None)})
        {'dict': {'a': 'x', 'b': {'tuple': ['y', None]}}}
    """
    if isinstance(names, Mapping):
        return {"dict": {key: encoded(part) for key, part in names.items()}}
    if isinstance(names, list | tuple):
        return {"list" if isinstance(names, list) else "tuple": [encoded(part) for part in names]}
    return names


def decoded(value: Any, depth: int = 0) -> Any:
    """The structure of names that `encoded` has written.

    Raises:
        ValueError: If it is none.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict) and len(value) == 1 and depth < _DEEPEST:
        ((kind, parts),) = value.items()
        if kind == "dict" and isinstance(parts, dict):
            return {key: decoded(part, depth + 1) for key, part in parts.items()}
        if kind in ("list", "tuple") and isinstance(parts, list):
            several = [decoded(part, depth + 1) for part in parts]
            return several if kind == "list" else tuple(several)
    raise ValueError(f"{str(value)[:80]} is no structure of names")


def kept(structure: Any, prefix: str = "") -> tuple[Any, dict[str, np.ndarray]]:
    """The arrays of a structure as `np.savez` takes them, and what JSON is to tell of their places.

    Strings get one length, because NumPy pickles objects.

    Example:
        >>> kept({"a": np.zeros(2), "b": (np.ones(1),)})[0]
        {'dict': {'a': '0', 'b': {'tuple': ['1']}}}
    """
    arrays: dict[str, np.ndarray] = {}

    def keep(value: Any) -> str:
        key = f"{prefix}{len(arrays)}"
        arrays[key] = without_objects(np.asarray(value))
        return key

    return encoded(mapped(keep, structure)), arrays


def read(path: Path, told: Any) -> Any:
    """The structure whose arrays `kept` has put into an `.npz` file.

    Raises:
        ValueError: If the file has others.
    """
    names = decoded(told)
    with np.load(path, allow_pickle=False) as arrays:
        missing = set(flat(names)) - set(arrays.files)
        if missing:
            raise ValueError(f"{path} does not hold {', '.join(sorted(missing))}; make or copy it again")
        return mapped(arrays.__getitem__, names)


def without_objects(array: np.ndarray) -> np.ndarray:
    """Strings of one length instead of objects."""
    if array.dtype.kind != "O":
        return array
    return array.astype("S" if any(isinstance(value, bytes) for value in array.flat) else "U")
