"""Matrices of small whole numbers: zeros and the rest, each with the settings that cost fewest bits."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from masslib.runtime.packed import model
from masslib.runtime.packed.coder import Code, Cost
from masslib.runtime.packed.fields import Fields

SPAN = 1024
"""How many different numbers a matrix may hold."""

MOST_ROWS = 2**16
"""Rows of a matrix whose zeros are coded apart, each of which takes some 50 us."""

_ZEROS_APART = 0.15
_LARGE = 300_000
# What it is worth to have a row less, each of which takes time
_BITS_PER_ROW = 0.25
_QUARTER_OCTAVES = (1.0, 1.189207115002721, 1.4142135623730951, 1.681792830507429)
_SCALES = 64
# Flags
_TRANSPOSED, _APART, _BY_ROW, _SMEAR, _BY_COLUMN = 1, 2, 4, 8, 16


@dataclass(frozen=True)
class Settings:
    """How a matrix is coded; see `masslib.runtime.packed.model`."""

    low: int
    high: int
    scale: int
    flags: int
    lag: int = 1

    def write(self, fields: Fields) -> None:
        """Append the settings to the head of a file."""
        fields.number(self.flags)
        fields.signed(self.low)
        fields.number(self.high - self.low)
        fields.number(self.scale)
        if self.flags & _APART:
            fields.number(self.lag)

    @classmethod
    def read(cls, fields: Fields) -> Settings:
        """Take settings from the head of a file."""
        flags, low = fields.number_up_to(31), fields.signed()
        if abs(low) > 2**31:
            raise ValueError("a matrix of large numbers")
        high, scale = low + fields.number_up_to(SPAN - 1), fields.number_up_to(_SCALES - 1)
        return cls(low, high, scale, flags, max(fields.number(), 1) if flags & _APART else 1)


def code_matrix(code: Code, shape: tuple[int, int], how: Settings, matrix: np.ndarray | None) -> np.ndarray:
    """Code a matrix of whole numbers from `how.low` to `how.high`; None to decode."""
    transposed = bool(how.flags & _TRANSPOSED)
    if transposed:
        shape, matrix = shape[::-1], None if matrix is None else matrix.T
    if how.flags & _APART:
        given = None if matrix is None else (matrix != 0).astype(np.uint8)
        nonzero = model.zero_map(code, shape, how.lag, bool(how.flags & _BY_ROW), given)
        places = np.flatnonzero(nonzero)
    else:
        places = np.arange(shape[0] * shape[1])
    values = None if matrix is None else np.ascontiguousarray(matrix).ravel()[places]
    coded = _code_numbers(code, places % shape[1], shape[1], how, values)
    found = np.zeros(shape[0] * shape[1], np.int64)
    found[places] = coded
    found = found.reshape(shape)
    return found.T if transposed else found


def _code_numbers(code: Code, places: np.ndarray, columns: int, how: Settings, values: np.ndarray | None) -> np.ndarray:
    return model.numbers(
        code,
        places,
        columns,
        (how.low, how.high),
        2.0 ** (how.scale // 4 - 4) * _QUARTER_OCTAVES[how.scale % 4],
        smear=bool(how.flags & _SMEAR),
        by_column=bool(how.flags & _BY_COLUMN),
        zeros=not how.flags & _APART,
        values=values,
    )


def fits(matrix: np.ndarray) -> bool:
    """Tell whether `code_matrix` takes a matrix."""
    return int(matrix.max()) - int(matrix.min()) < SPAN and max(abs(int(matrix.min())), abs(int(matrix.max()))) < 2**31


def best_settings(matrix: np.ndarray, lags: Iterable[int], known: dict[bytes, Settings]) -> Settings:
    """The settings that take fewest bits of those that are tried.

    Args:
        matrix: What is to be coded.
        lags: Distances between rows, or columns, that may have something to do with each other.
        known: Settings for zeros that were tried already, with these lags, by the SHA-256 of the zeros; gets new ones.
    """
    mean = float(np.abs(matrix[matrix != 0]).mean()) if matrix.any() else 1.0
    how = Settings(int(matrix.min()), int(matrix.max()), _scale_of(mean), 0)
    apart = float(np.mean(matrix == 0)) > _ZEROS_APART and min(matrix.shape) <= MOST_ROWS
    if apart:
        nonzero = (matrix != 0).astype(np.uint8)
        key = hashlib.sha256(nonzero).digest()
        if key not in known:
            known[key] = _best_zero_map(replace(how, flags=_APART), nonzero, lags)
        how = replace(how, flags=known[key].flags, lag=known[key].lag)
    return _best_numbers(how, matrix)


def _best_zero_map(how: Settings, nonzero: np.ndarray, lags: Iterable[int]) -> Settings:
    def bits(settings: Settings) -> float:
        turned = nonzero.T if settings.flags & _TRANSPOSED else nonzero
        cost = Cost()
        model.zero_map(cost, turned.shape, settings.lag, bool(settings.flags & _BY_ROW), np.ascontiguousarray(turned))
        return cost.bits_spent + _BITS_PER_ROW * len(turned)

    # The longer rows are quicker; of a large matrix no others are tried.
    turns = [side for side in (0, _TRANSPOSED) if nonzero.shape[0 if side == 0 else 1] <= MOST_ROWS]
    if nonzero.size > _LARGE:
        turns = [0 if nonzero.shape[0] <= nonzero.shape[1] else _TRANSPOSED]
    trials = [replace(how, flags=_APART | turn | by) for turn, by in itertools.product(turns, (0, _BY_ROW))]
    costs = {trial: bits(trial) for trial in trials}
    best = min(costs, key=costs.__getitem__)
    rows = nonzero.shape[1 if best.flags & _TRANSPOSED else 0]
    if nonzero.size <= _LARGE:
        others = {replace(best, lag=lag) for lag in lags if 1 < lag < rows}
        costs |= {trial: bits(trial) for trial in sorted(others, key=lambda trial: trial.lag)}
    return min(costs, key=costs.__getitem__)


def _best_numbers(how: Settings, matrix: np.ndarray) -> Settings:
    turns = [how.flags & _TRANSPOSED] if how.flags & _APART else [0, _TRANSPOSED]
    costs = {}
    for turn, smear, by_column in itertools.product(turns, (0, _SMEAR), (0, _BY_COLUMN)):
        trial = replace(how, flags=how.flags & ~_TRANSPOSED | turn | smear | by_column)
        turned = matrix.T if turn else matrix
        places = np.flatnonzero(turned) if how.flags & _APART else np.arange(matrix.size)
        sample = places[:_LARGE]
        cost = Cost()
        _code_numbers(cost, sample % turned.shape[1], turned.shape[1], trial, np.ravel(turned)[sample])
        costs[trial] = cost.bits_spent
    return min(costs, key=costs.__getitem__)


def _scale_of(mean: float) -> int:
    return min(max(round(4 * (math.log2(mean) + 4)), 0), _SCALES - 1)
