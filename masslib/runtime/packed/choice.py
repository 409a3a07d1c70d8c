"""Which coding a tensor gets: all that fit are tried, and the one that takes fewest bits is taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from masslib.runtime.packed.coder import Cost
from masslib.runtime.packed.codings import (
    MOST_LEVELS,
    Coding,
    Grid,
    Planes,
    RowGrids,
    RowTables,
    Table,
    Whole,
    multiples,
    on_grid,
    parts_of,
)
from masslib.runtime.packed.fields import Fields
from masslib.runtime.packed.matrices import SPAN, Settings, best_settings, fits

# The least value that is not zero may be a multiple of the step.
_MULTIPLES = 8
_ROW_LEVELS = 32
_MOST_ROWS = 4096


def best_coding(values: np.ndarray, lags: Iterable[int]) -> Coding:
    """Return the coding that takes fewest bits, its part of the head included.

    Args:
        values: A matrix, with a row for each output channel.
        lags: Distances between rows or columns that may have something to do with each other.
    """
    candidates = list(_candidates(values, list(lags)))
    if len(candidates) == 1:
        return candidates[0]
    return min(candidates, key=lambda coding: _bits(coding, values))


def _bits(coding: Coding, values: np.ndarray) -> float:
    head, cost = Fields(), Cost()
    coding.write(head)
    coding.values(cost, values.shape, values.dtype, values)
    return 8 * len(head.content) + cost.bits_spent


def _candidates(values: np.ndarray, lags: list[int]) -> Iterator[Coding]:
    known: dict[bytes, Settings] = {}  # most of them have the same zeros
    whole = values.dtype.kind in "iu"
    if not whole or values.dtype.itemsize > 1:
        yield Planes()
    if not whole and (not np.isfinite(values).all() or np.signbit(values[values == 0]).any()):
        return  # searching and multiplying would lose them
    if whole and fits(values.astype(np.int64)):
        yield Whole(best_settings(values.astype(np.int64), lags, known))
    table = np.unique(values)
    if not whole and (step := _step(table)) is not None:
        yield Grid(best_settings(multiples(values, step), lags, known), step)
    elif not whole and 1 < len(values) <= _MOST_ROWS and (steps := _row_steps(values)) is not None:
        yield RowGrids(best_settings(multiples(values, steps[:, None]), lags, known), steps)
    span = int(table[-1]) - int(table[0]) + 1 if whole else np.inf
    if len(table) > min(MOST_LEVELS, 0.75 * span):
        return
    middle = int(np.abs(table.astype("float64")).argmin())
    yield Table(best_settings(np.searchsorted(table, values) - middle, lags, known), table)
    if 1 < len(values) <= _MOST_ROWS:
        has = parts_of(values, table)
        if has.sum(axis=1).mean() < min(_ROW_LEVELS, 0.75 * len(table)):
            ranks = np.cumsum(has, axis=1) - 1
            nearest = np.where(has, np.abs(table.astype("float64")), np.inf).argmin(axis=1)
            levels = np.take_along_axis(ranks, np.searchsorted(table, values), axis=1)
            levels -= ranks[np.arange(len(values)), nearest][:, None]
            yield RowTables(best_settings(levels, lags, known), table)


def _row_steps(values: np.ndarray) -> np.ndarray | None:
    """The step of each row, 0 where there are zeros only; None if a row has none."""
    steps = np.zeros(len(values), values.dtype)
    for place, row in enumerate(values):
        if row.any():
            step = _step(np.unique(row))
            if step is None:
                return None
            steps[place] = step[0]
    return steps


def _step(table: np.ndarray) -> np.ndarray | None:
    """The largest step of which all values are multiples, to the bit; None if there is none."""
    magnitudes = np.abs(table[table != 0])
    if not len(magnitudes):
        return None
    for divisor in range(1, _MULTIPLES + 1):
        step = (magnitudes.min(keepdims=True) / divisor).astype(table.dtype)
        if not step[0] > 0 or float(magnitudes.max()) / float(step[0]) > SPAN:
            return None
        levels = multiples(table, step)
        if fits(levels) and np.abs(on_grid(levels, step) - table).max() <= 1e-3 * step[0]:
            # To the bit it may be its neighbour.
            for near in (step, np.nextafter(step, 2 * step), np.nextafter(step, 0 * step)):
                if np.array_equal(on_grid(levels, near), table):
                    return near
    return None
