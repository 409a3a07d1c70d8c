"""From the numbers of a tensor to whole numbers that can be coded well, and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np

from masslib.runtime.packed.coder import Code
from masslib.runtime.packed.fields import Fields
from masslib.runtime.packed.matrices import Settings, code_matrix

MOST_LEVELS = 256
"""Entries of a table of values."""


class Coding(Protocol):
    """One way of coding the values of a tensor, as a matrix with a row for each output channel."""

    number: ClassVar[int]

    def write(self, fields: Fields) -> None:
        """Append what a reader needs to know to the head of a file."""
        ...

    @classmethod
    def read(cls, fields: Fields, dtype: np.dtype) -> Self:
        """Take it from there."""
        ...

    def values(self, code: Code, shape: tuple[int, int], dtype: np.dtype, given: np.ndarray | None) -> np.ndarray:
        """Code the values; None to decode."""
        ...


@dataclass(frozen=True)
class Whole:
    """Whole numbers as they are."""

    matrix: Settings
    number = 0

    def write(self, fields: Fields) -> None:
        """Append the settings."""
        self.matrix.write(fields)

    @classmethod
    def read(cls, fields: Fields, dtype: np.dtype) -> Self:
        """Take the settings."""
        return cls(Settings.read(fields))

    def values(self, code: Code, shape: tuple[int, int], dtype: np.dtype, given: np.ndarray | None) -> np.ndarray:
        """Code the values."""
        return code_matrix(code, shape, self.matrix, None if given is None else given.astype(np.int64)).astype(dtype)


@dataclass(frozen=True)
class Grid:
    """Multiples of a step, rounded to the type of the tensor."""

    matrix: Settings
    step: np.ndarray
    number = 1

    def write(self, fields: Fields) -> None:
        """Append the step and the settings."""
        fields.add(self.step.tobytes())
        self.matrix.write(fields)

    @classmethod
    def read(cls, fields: Fields, dtype: np.dtype) -> Self:
        """Take the step and the settings."""
        step = np.frombuffer(fields.piece(dtype.itemsize), dtype)
        return cls(Settings.read(fields), step)

    def values(self, code: Code, shape: tuple[int, int], dtype: np.dtype, given: np.ndarray | None) -> np.ndarray:
        """Code the values."""
        levels = None if given is None else multiples(given, self.step)
        return on_grid(code_matrix(code, shape, self.matrix, levels), self.step)


@dataclass(frozen=True)
class RowGrids:
    """Multiples of one step for each row, as the normalization behind a convolution makes them of those of one step."""

    matrix: Settings
    steps: np.ndarray
    number = 6

    def write(self, fields: Fields) -> None:
        """Append the steps and the settings."""
        fields.number(len(self.steps))
        fields.add(self.steps.tobytes())
        self.matrix.write(fields)

    @classmethod
    def read(cls, fields: Fields, dtype: np.dtype) -> Self:
        """Take the steps and the settings."""
        steps = np.frombuffer(fields.piece(fields.number() * dtype.itemsize), dtype)
        return cls(Settings.read(fields), steps)

    def values(self, code: Code, shape: tuple[int, int], dtype: np.dtype, given: np.ndarray | None) -> np.ndarray:
        """Code the values."""
        levels = None if given is None else multiples(given, self.steps[:, None])
        return on_grid(code_matrix(code, shape, self.matrix, levels), self.steps[:, None])


@dataclass(frozen=True)
class Table:
    """Numbers of a few values, such as centroids: places in their sorted table, from the one nearest to zero on."""

    matrix: Settings
    table: np.ndarray
    number = 2

    def write(self, fields: Fields) -> None:
        """Append the table and the settings."""
        fields.number(len(self.table))
        fields.add(self.table.tobytes())
        self.matrix.write(fields)

    @classmethod
    def read(cls, fields: Fields, dtype: np.dtype) -> Self:
        """Take the table and the settings."""
        size = fields.number_up_to(MOST_LEVELS)
        table = np.frombuffer(fields.piece(size * dtype.itemsize), dtype)
        return cls(Settings.read(fields), table)

    def values(self, code: Code, shape: tuple[int, int], dtype: np.dtype, given: np.ndarray | None) -> np.ndarray:
        """Code the values."""
        middle = int(np.abs(self.table.astype("float64")).argmin())
        levels = None if given is None else np.searchsorted(self.table, given) - middle
        return self.table[_place(code_matrix(code, shape, self.matrix, levels) + middle, len(self.table))]


@dataclass(frozen=True)
class RowTables(Table):
    """Numbers of a few values in each row, where a scale per channel has spread the centroids.

    Each row tells which part of the table it has; its numbers are places in this part, from the one nearest to zero on.
    """

    number = 3

    def values(self, code: Code, shape: tuple[int, int], dtype: np.dtype, given: np.ndarray | None) -> np.ndarray:
        """Code the values."""
        has = self._parts(code, shape[0], None if given is None else parts_of(given, self.table))
        ranks = np.cumsum(has, axis=1) - 1
        nearest = np.where(has, np.abs(self.table.astype("float64")), np.inf).argmin(axis=1)
        middles = ranks[np.arange(shape[0]), nearest][:, None]
        levels = None
        if given is not None:
            levels = np.take_along_axis(ranks, np.searchsorted(self.table, given), axis=1) - middles
        found = _place(code_matrix(code, shape, self.matrix, levels) + middles, len(self.table))
        return self.table[np.take_along_axis(np.argsort(~has, axis=1, kind="stable"), found, axis=1)]

    def _parts(self, code: Code, rows: int, has: np.ndarray | None) -> np.ndarray:
        """Code which values each row has, by how many rows before it had them."""
        found = np.zeros((rows, len(self.table)), bool)
        counts = np.zeros(len(self.table), np.int64)
        for row in range(rows):
            ones = np.clip(((2 * counts + 1) << 16) // (2 * row + 2), 64, 65536 - 64)
            found[row] = code.bits(ones, None if has is None else has[row])
            counts += found[row]
        return found


@dataclass(frozen=True)
class Planes:
    """Numbers byte by byte, the highest byte first, each given whether the one above is 0, 255 or another.

    Of floats the sign is moved to the end, so that the exponent fills the highest byte.
    """

    number = 4

    def write(self, fields: Fields) -> None:
        """Append nothing."""

    @classmethod
    def read(cls, fields: Fields, dtype: np.dtype) -> Self:
        """Take nothing."""
        return cls()

    def values(self, code: Code, shape: tuple[int, int], dtype: np.dtype, given: np.ndarray | None) -> np.ndarray:
        """Code the values."""
        kind, last = np.dtype(f"<u{dtype.itemsize}"), 8 * dtype.itemsize - 1
        one, sign = np.array(1, kind), np.array(last, kind)
        source = None
        if given is not None:
            source = np.ascontiguousarray(given).view(kind).ravel()
            if dtype.kind == "f":
                source = source << one | source >> sign
        found = np.zeros(shape[0] * shape[1], kind)
        above = np.ones(found.size, np.int64)
        for shift in range(last - 7, -1, -8):
            by = np.array(shift, kind)
            plane = _code_plane(code, above, None if source is None else (source >> by).astype(np.uint8))
            found |= plane.astype(kind) << by
            above = np.where(plane == 0, 0, np.where(plane == 255, 2, 1))
        if dtype.kind == "f":
            found = found >> one | found << sign
        return found.view(dtype).reshape(shape)


CODINGS: dict[int, type[Coding]] = {
    coding.number: coding for coding in (Whole, Grid, Table, RowTables, Planes, RowGrids)
}


def _code_plane(code: Code, above: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    found = np.zeros(len(above), np.int64)
    for kind in range(3):
        members, counts = np.flatnonzero(above == kind), np.full(256, 0.25)
        for block in _blocks(len(members)):
            part = members[block]
            found[part] = code.symbols(counts, len(part), None if given is None else given[part])
            counts += np.bincount(found[part], minlength=256)
    return found


def _blocks(size: int) -> Iterable[slice]:
    start, length = 0, 16
    while start < size:
        yield slice(start, min(start + length, size))
        start, length = start + length, min(length * 3 // 2, 2**16)


def multiples(values: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The nearest multiples of a step, as whole numbers."""
    with np.errstate(divide="ignore", invalid="ignore"):  # a row of zeros has the step 0
        return np.nan_to_num(np.rint(values.astype("float64") / step.astype("float64"))).astype(np.int64)


def on_grid(levels: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Multiples of a step as they are stored."""
    with np.errstate(over="ignore"):  # of steps that only a hostile file has
        return (levels * step.astype("float64")).astype(step.dtype)


def parts_of(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Which entries of a table occur in each row `(rows, entries)`."""
    found = np.zeros((len(values), len(table)), bool)
    np.put_along_axis(found, np.searchsorted(table, values), True, axis=1)
    return found


def _place(places: np.ndarray, size: int) -> np.ndarray:
    if places.size and (places.min() < 0 or places.max() >= size):
        raise ValueError("a place outside of its table")
    return places
