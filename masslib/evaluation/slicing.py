"""Parts of the data that are judged by themselves: a mean over all rows hides where a model fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from masslib.evaluation.result import Evaluation

# Values of a column up to which each is taken for a slice; more is an identifier or a quantity
_MOST_VALUES = 50


def parts_of(slices: Mapping[str, Any] | None, rows: int) -> dict[str, np.ndarray]:
    """Name of each slice -> which rows belong to it, booleans `(rows,)`.

    Raises:
        ValueError: An array has another shape, too many values, or chooses no row.
    """
    parts: dict[str, np.ndarray] = {}
    for name, given in (slices or {}).items():
        values = np.asarray(given)
        if values.shape != (rows,):
            raise ValueError(f"slices[{name!r}] has shape {values.shape}; expected one value per row, ({rows},)")
        if values.dtype == bool:
            if not values.any():
                raise ValueError(f"slices[{name!r}] chooses none of the {rows} rows; leave it out")
            parts[str(name)] = values
            continue
        known = np.unique(values)
        if len(known) > _MOST_VALUES:
            raise ValueError(
                f"slices[{name!r}] has {len(known)} values, at most {_MOST_VALUES} make slices; group them first, such "
                "as by numpy.digitize"
            )
        parts |= {f"{name}={value}": values == value for value in known}
    return parts


class Sliced:
    """Hands the rows of each slice to a judge of its own.

    Args:
        parts: As `parts_of` gives them.
        judge: Number of rows -> what adds them up.
    """

    def __init__(self, parts: Mapping[str, np.ndarray], judge: Callable[[int], Any]):
        self._parts = {name: (chosen, judge(int(chosen.sum()))) for name, chosen in parts.items()}
        self._seen = dict.fromkeys(parts, 0)

    def add(self, rows: slice, *arrays: np.ndarray | None) -> None:
        """Add some rows: outputs, labels, weights and users, or None."""
        for name, (chosen, judge) in self._parts.items():
            here, start = chosen[rows], self._seen[name]
            self._seen[name] = stop = start + int(here.sum())
            if stop > start:
                judge.add(slice(start, stop), *(None if array is None else array[here] for array in arrays))

    def results(self) -> dict[str, Evaluation]:
        """The figures of each slice."""
        found = {}
        for name, (_, judge) in self._parts.items():
            with warnings.catch_warnings():
                # A small part often lacks a class or has one row; the figure that needs more is NaN.
                warnings.simplefilter("ignore", RuntimeWarning)
                try:
                    found[name] = judge.result()
                except ValueError as error:
                    error.add_note(f"This was the slice {name!r}.")
                    raise
        return found
