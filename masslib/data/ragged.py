"""Rows of varying length, such as words and waveforms: stored end to end, padded per batch when they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from masslib.data.rows import Index, Rows

if TYPE_CHECKING:
    import tensorflow as tf


def ragged(rows: Sequence[Any], *, pad: float = 0) -> RaggedRows:
    """Makes a field of rows of varying length, for `from_arrays`.

    A batch of them is as long as its longest row; the others are padded at the end. `Embedding(mask_zero=True)` and
    `Masking()` take what is padded with 0 for absent, as does a loss for a label that it ignores
    (`SparseCategoricalCrossentropy(ignore_class=-1)` with `pad=-1`).

    Args:
        rows: a sequence of arrays `(length, ...)` (or of lists) that differ in their first axis alone, or a
            `tf.RaggedTensor` with one such axis; none may be empty.
        pad: what the missing end of a row is filled with.

    Returns:
        The rows; floats become float32.

    Raises:
        ValueError: no rows, an empty row, rows of several shapes or types; a `pad` that their type cannot hold.

    Example:
        >>> from masslib.data import from_arrays
        >>> words = ragged([[7, 2], [5], [3, 1, 4]])
        >>> from_arrays({"words": words}, [0, 1, 0])[:2][0]["words"]
        array([[7, 2],
               [5, 0]])
    """
    arrays = [np.asarray(row.numpy() if hasattr(row, "numpy") else row) for row in rows]
    if not arrays:
        raise ValueError("rows is empty, expected at least one row.")
    shapes = {array.shape[1:] for array in arrays}
    if len(shapes) > 1 or any(array.ndim == 0 or not len(array) for array in arrays):
        wrong = next(k for k, array in enumerate(arrays) if array.ndim == 0 or not len(array) or len(shapes) > 1)
        raise ValueError(
            f"row {wrong} has shape {arrays[wrong].shape}; expected arrays (length, ...) with at least one value that "
            f"differ in their first axis alone, and these have {len(shapes)} shapes of one step."
        )
    values = np.concatenate(arrays)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"rows have dtype {values.dtype}, expected numbers or booleans.")
    if values.dtype.kind == "f":
        values = values.astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            raise ValueError("rows hold NaN or infinity, expected finite numbers.")
    if values.dtype.type(pad) != pad:
        raise ValueError(f"pad is {pad!r}, which {values.dtype} cannot hold.")
    return RaggedRows(values, np.cumsum([0, *map(len, arrays)]), pad)


class RaggedRows(Rows):
    """Rows of varying length in memory.

    Args:
        values: `(steps of all rows, ...)`, one row behind the other.
        ends: `(n + 1,)` where each row begins, and where the last one ends.
        pad: what the missing end of a row is filled with.

    Attributes:
        lengths: `(n,)` steps of each row.
        pad: the same.
    """

    def __init__(self, values: np.ndarray, ends: np.ndarray, pad: float = 0) -> None:
        super().__init__((None, *values.shape[1:]), values.dtype)
        self._values, self._ends, self.pad = values, ends, pad
        self.lengths = np.diff(ends)

    def __len__(self) -> int:
        return len(self.lengths)

    def raw(self, rows: Index) -> np.ndarray:
        """Some rows, padded to the longest of them; a single one as it is."""
        chosen = np.arange(len(self))[rows]
        if np.ndim(chosen) == 0:
            return self._row(chosen)
        return padded([self._row(k) for k in chosen], self.shape[1:], self.dtype, self.pad)

    def select(self, rows: slice | np.ndarray) -> RaggedRows:
        """Some of the rows, as a copy."""
        chosen = np.arange(len(self))[rows]
        values = [self._row(k) for k in chosen]
        return RaggedRows(np.concatenate(values or [self._values[:0]]), np.cumsum([0, *map(len, values)]), self.pad)

    def reader(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """See `Rows.reader`; this one gathers the rows from a ragged tensor."""
        import tensorflow as tf

        with tf.init_scope(), tf.device("CPU:0"):
            whole = tf.RaggedTensor.from_row_splits(tf.constant(self._values), tf.constant(self._ends, tf.int64))
            pad = tf.constant(self.pad, self.dtype)
        shape = [None, *self.shape]
        return lambda rows: tf.ensure_shape(tf.gather(whole, rows).to_tensor(pad), shape)

    def _row(self, number: int) -> np.ndarray:
        return self._values[self._ends[number] : self._ends[number + 1]]

    def __repr__(self) -> str:
        return f"{self.dtype} of {self.lengths.min()} to {self.lengths.max()} steps"


def padded(rows: Sequence[np.ndarray], shape: tuple[int, ...], dtype: np.dtype, pad: float) -> np.ndarray:
    """Puts rows of varying length `(steps, *shape)` into one array, filled up at the end.

    Example:
        >>> padded([np.array([1, 2]), np.array([3])], (), np.dtype(int), 0)
        array([[1, 2],
               [3, 0]])
    """
    result = np.full((len(rows), max(map(len, rows), default=0), *shape), pad, dtype)
    for target, row in zip(result, rows, strict=True):
        target[: len(row)] = row
    return result
