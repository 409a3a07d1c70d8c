"""What the constructors of a `Subset` share: structures of arrays become `Rows`, all of them as long."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

from masslib._util.structures import flat
from masslib.data.rows import NestedRows, Rows, nested
from masslib.data.subset import Subset


def as_rows(name: str, values: Any, make: Callable[[str, Any, Any], Rows], option: Any = None) -> Rows | None:
    """Makes `Rows` of an array, or of a dict, list or tuple of them.

    A list of numbers or strings, at any depth, is one array; in other lists each element is a field of its own, as
    Keras has it. `Rows`, and the inputs of a `Subset`, are taken as they are.

    Args:
        name: what errors call the values: the fields are `x['image']`, `x[0]`.
        values: the structure, or None.
        make: makes the rows of one field, given its name, its values and its option.
        option: an option of `make`, or a structure of such like `values`, in which a dict may leave out keys.

    Raises:
        ValueError: an empty structure, or options for fields that there are not.
    """
    if isinstance(values, Subset):
        values = values.rows
    if isinstance(values, Rows) and isinstance(option, numbers.Real):
        raise ValueError(f"scale {option!r} was passed for {name}, rows that have their scale already; expected None.")
    if values is None or isinstance(values, Rows):
        return values
    if not isinstance(values, dict | list | tuple) or _is_one_array(values):
        return make(name, values, option)
    if not values:
        raise ValueError(f"{name} is an empty {type(values).__name__}, expected at least one array.")
    named = isinstance(values, dict)
    keys = list(values) if named else range(len(values))
    options = _options(name, list(keys), named, option)
    parts = [as_rows(f"{name}[{key!r}]", values[key], make, options[key]) for key in keys]
    if all(part is None for part in parts):
        return None
    return NestedRows(dict(zip(keys, parts, strict=True)) if named else tuple(parts))


def _is_one_array(values: Any) -> bool:
    """Whether this is a list of numbers or strings, at any depth, and no structure of arrays."""
    return isinstance(values, list | tuple) and bool(len(values)) and all(map(np.isscalar, _listed(values)))


def _listed(values: Any) -> list[Any]:
    return [] if values is None else flat(values)


def _options(name: str, keys: list[Any], named: bool, option: Any) -> dict[Any, Any]:
    """The option of each field."""
    if option is None:
        return dict.fromkeys(keys)
    if named and isinstance(option, dict) and set(option) <= set(keys):
        return dict.fromkeys(keys) | option
    if not named and isinstance(option, list | tuple) and len(option) == len(keys):
        return dict(enumerate(option))
    example = {keys[0]: "..."} if named else ["...", *[None] * (len(keys) - 1)]
    raise ValueError(f"{option!r} was passed for {name}, which has the fields {keys}; expected such as {example}.")


def subset(x: Rows, y: Rows | None, sample_weight: Rows | None, classes: Any = None) -> Subset:
    """Makes a `Subset` of rows of which there must be as many.

    One array of weights for several labels weighs them all, as in Keras.

    Raises:
        ValueError: unequal counts of rows; weights without labels, or in another structure than theirs.
    """
    counts = {
        name: sorted({len(part) for part in flat(rows.parts if isinstance(rows, NestedRows) else rows)})
        for name, rows in (("x", x), ("y", y), ("sample_weight", sample_weight))
        if rows is not None
    }
    if len({count for several in counts.values() for count in several}) != 1:
        found = {name: several[0] if len(several) == 1 else several for name, several in counts.items()}
        raise ValueError(f"the arrays have different numbers of rows: {found}; expected as many in each.")
    if sample_weight is not None:
        sample_weight = _matched(y, sample_weight)
    return Subset(x, y, classes, sample_weight)


def _matched(y: Rows | None, weights: Rows) -> Rows:
    """The weights in the structure of the labels."""
    if y is None:
        raise ValueError("sample_weight was passed without y; expected labels, whose loss the weights are for.")
    if not isinstance(weights, NestedRows):
        if not isinstance(y, NestedRows):
            return weights
        if weights.shape not in {(), (1,)}:
            raise ValueError(
                f"sample_weight has rows of shape {weights.shape} for several labels, expected one number per row, "
                f"or weights for each of {_skeleton(y)}."
            )
        return NestedRows(nested(lambda _: weights, y.parts))
    if _skeleton(weights) != _skeleton(y):
        raise ValueError(
            f"sample_weight has the structure {_skeleton(weights)} and y {_skeleton(y)}; expected one array, or one "
            "for each of the labels."
        )
    return weights


def _skeleton(rows: Rows) -> Any:
    """The structure of some rows, with a word for each array."""
    parts = rows.parts if isinstance(rows, NestedRows) else rows
    if isinstance(parts, dict):
        return {key: _skeleton(part) for key, part in parts.items()}
    return tuple(map(_skeleton, parts)) if isinstance(parts, tuple) else "array"
