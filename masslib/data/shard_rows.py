"""Rows in the files of `write_shards`, read when they are needed; in memory are the names of the files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from masslib._util.remote import RemoteFile, at_hand
from masslib.data.ragged import padded
from masslib.data.rows import Index, Rows

_LEAST, _MAPPED = 256, 2**25  # rows, and bytes of records, that are read through one map


@dataclass(frozen=True)
class Field:
    """One field of the records, as the manifest describes it.

    Attributes:
        name: its name in them.
        dtype: NumPy type of a value.
        shape: shape of a row; the first axis is None where rows vary in length.
        scale: float32 factor applied to every value that is read, or None.
        pad: what the missing end of a row is filled with.
        offset: byte of a record where it begins, or None where rows vary in length.
    """

    name: str
    dtype: str
    shape: list[int | None]
    scale: float | None
    pad: float
    offset: int | None


class _Filed(Rows):
    """Rows in several files."""

    def __init__(
        self, paths: list[Path | RemoteFile], counts: list[int], field: Field, rows: np.ndarray | None
    ) -> None:
        super().__init__(tuple(field.shape), np.dtype(field.dtype).newbyteorder("="), field.scale)
        self._paths, self._counts, self._field = paths, counts, field
        self._ends = np.cumsum(counts)
        self._rows = np.arange(sum(counts)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def _by_file(self, chosen: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """File, places among the chosen rows, and their numbers in the file, as many as are read through one map."""
        shards = np.searchsorted(self._ends, chosen, side="right")
        for shard in np.unique(shards):
            here = np.flatnonzero(shards == shard)
            # Pages count as memory until the map is closed: the labels of a file would bring in all of it.
            step = max(_LEAST, _MAPPED * self._counts[shard] // self._size(int(shard)))
            for first in range(0, len(here), step):
                some = here[first : first + step]
                yield int(shard), some, chosen[some] - (self._ends[shard] - self._counts[shard])

    def _size(self, shard: int) -> int:
        return at_hand(self._paths[shard], lambda path: path.stat().st_size)

    def _mapped(self, shard: int, dtype: Any) -> np.memmap:
        return at_hand(self._paths[shard], lambda path: np.memmap(path, dtype, "r"))

    def __repr__(self) -> str:
        return f"{super().__repr__()} in {len(self._paths)} shards"


class ShardRows(_Filed):
    """Rows of one shape, in records of one length.

    Args:
        paths: the files.
        counts: how many records each one has.
        record: NumPy type of a record.
        field: which of its fields.
        rows: `(n,)` which of all the records, in this order; by default all.
    """

    def __init__(
        self,
        paths: list[Path | RemoteFile],
        counts: list[int],
        record: np.dtype,
        field: Field,
        rows: np.ndarray | None = None,
    ) -> None:
        super().__init__(paths, counts, field, rows)
        self._record = record

    def raw(self, rows: Index) -> np.ndarray:
        """Reads some of the rows."""
        chosen = np.atleast_1d(self._rows[rows])
        result = np.empty((len(chosen), *self.shape), self.dtype)
        for shard, here, numbers in self._by_file(chosen):
            # Opened anew each time: a map that stays open counts as memory, and cannot be sent to another process.
            result[here] = self._mapped(shard, self._record)[self._field.name][numbers]
        return result if np.ndim(self._rows[rows]) else result[0]

    def select(self, rows: slice | np.ndarray) -> ShardRows:
        """Some of the rows, without reading them."""
        return ShardRows(self._paths, self._counts, self._record, self._field, self._rows[rows])


class RaggedShardRows(_Filed):
    """Rows of one field where some of the fields vary in length.

    Args:
        paths: the files.
        counts: how many records each one has.
        field: the field.
        starts: `(n,)` the byte of its file where each row of all the records begins.
        steps: `(n,)` how many steps each has.
        rows: `(n,)` which of all the records, in this order; by default all.
    """

    def __init__(
        self,
        paths: list[Path | RemoteFile],
        counts: list[int],
        field: Field,
        starts: np.ndarray,
        steps: np.ndarray,
        rows: np.ndarray | None = None,
    ) -> None:
        super().__init__(paths, counts, field, rows)
        self._starts, self._steps, self.pad = starts, steps, field.pad
        if None in self.shape:
            self.lengths = steps[self._rows]

    def raw(self, rows: Index) -> Any:
        """Reads some of the rows; those of varying length are padded to the longest of them, a single one is not."""
        chosen = np.atleast_1d(self._rows[rows])
        found: list[np.ndarray] = [np.empty(0)] * len(chosen)
        for shard, here, numbers in self._by_file(chosen):
            data = self._mapped(shard, np.uint8)
            first = self._ends[shard] - self._counts[shard]
            for place, number in zip(here, numbers + first, strict=True):
                found[place] = self._row(data, number)
        if not np.ndim(self._rows[rows]):
            return found[0]
        if None in self.shape:
            return padded(found, self.shape[1:], self.dtype, self.pad)
        return np.stack(found) if found else np.empty((0, *self.shape), self.dtype)

    def select(self, rows: slice | np.ndarray) -> RaggedShardRows:
        """Some of the rows, without reading them."""
        return RaggedShardRows(self._paths, self._counts, self._field, self._starts, self._steps, self._rows[rows])

    def _row(self, data: np.ndarray, number: int) -> np.ndarray:
        stored, steps = np.dtype(self._field.dtype), int(self._steps[number])
        shape = [steps if size is None else size for size in self.shape]
        start = int(self._starts[number])
        values = np.array(data[start : start + stored.itemsize * int(np.prod(shape))])
        return values.view(stored).reshape(shape).astype(self.dtype, copy=False)
