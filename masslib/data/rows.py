"""Turn row numbers into model input: the one place that knows where the rows of a `Subset` lie.

`ArrayRows` keeps them in memory, `NestedRows` holds several fields side by side, each of which may lie somewhere else.
Rows that lie in files derive from `Rows` and say how to read them as they are stored (`raw`) and how to choose some of
them (`select`); `Subset`, its batches and its callers stay as they are.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from masslib._util.structures import flat

if TYPE_CHECKING:
    import tensorflow as tf

Index: TypeAlias = int | slice | np.ndarray | list[int]


class Rows(abc.ABC):
    """Rows of one shape, stored in a type of their own and scaled when they are read.

    Attributes:
        shape: shape of one row.
        dtype: type of the stored values.
        scale: float32 factor applied to every value that is read, which makes it float32; None for rows that are read
            as they are stored.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, scale: float | None = None) -> None:
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.scale = None if scale is None else np.float32(scale)

    @abc.abstractmethod
    def __len__(self) -> int:
        """How many rows there are."""

    @abc.abstractmethod
    def raw(self, rows: Index) -> np.ndarray:
        """Some rows as they are stored, of type `dtype`."""

    @abc.abstractmethod
    def select(self, rows: slice | np.ndarray) -> Rows:
        """Some of the rows, as rows of the same kind."""

    def read(self, rows: Index) -> np.ndarray:
        """Some rows as a network gets them, a new array."""
        raw = self.raw(rows)
        return np.array(raw)[()] if self.scale is None else raw.astype(np.float32) * self.scale

    def whole(self) -> np.ndarray:
        """All rows as a network gets them; an array in memory is not copied."""
        return self.read(slice(None))

    def reader(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """A function for use inside a graph: int row numbers `(b,)` -> rows `(b, ...)`.

        Here it calls `raw`, so that a graph gets the bits that `read` gives.
        """
        import tensorflow as tf

        def read(rows: tf.Tensor) -> tf.Tensor:
            batch = tf.numpy_function(self.raw, [rows], tf.as_dtype(self.dtype), stateful=False)
            return self._scaled(tf.ensure_shape(batch, [None, *self.shape]))

        return read

    def _scaled(self, batch: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        if self.scale is None:
            return batch
        batch = tf.cast(batch, tf.float32)
        return batch if self.scale == 1 else batch * self.scale

    def __repr__(self) -> str:
        return f"{self.dtype}" if self.scale in (None, 1) else f"{self.dtype} x {self.scale:.4g}"


class ArrayRows(Rows):
    """Rows `(n, ...)` of a NumPy array.

    Args:
        x: `(n, ...)` array; it is not copied.
        scale: float32 factor applied to every value that is read, or None.

    Example:
        >>> ArrayRows(np.array([[0, 8], [4, 16]], np.uint8), 1 / 16).read([1])
        array([[0.25, 1.  ]], dtype=float32)
    """

    def __init__(self, x: np.ndarray, scale: float | None = None) -> None:
        super().__init__(x.shape[1:], x.dtype, scale)
        self._x = x

    def __len__(self) -> int:
        return len(self._x)

    def raw(self, rows: Index) -> np.ndarray:
        """Some rows as they are stored; a slice shares the memory."""
        return self._x[rows]

    def whole(self) -> np.ndarray:
        """All rows; they share the memory if they are not scaled."""
        return self._x if self.scale is None else super().whole()

    def select(self, rows: slice | np.ndarray) -> ArrayRows:
        """Some of the rows; a slice shares the memory."""
        return ArrayRows(self._x[rows], self.scale)

    def reader(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """See `Rows.reader`; this one gathers the rows from a tensor."""
        import tensorflow as tf

        # Eager and on the CPU wherever this is called: a graph would store the data as a constant of its own,
        # a GPU would hand every batch back to the CPU, where tf.data works.
        with tf.init_scope(), tf.device("CPU:0"):
            x = tf.constant(self._x)
        return lambda rows: self._scaled(tf.gather(x, rows))


class NestedRows(Rows):
    """Rows of several fields side by side, for networks with several inputs or outputs.

    Attributes:
        parts: a dict or tuple, at any depth, of `Rows` (or None); all have as many.
        shape: the shapes of the fields, in the same structure.
        dtype: their types, likewise.
        scale: their scales, likewise.
    """

    def __init__(self, parts: Any) -> None:
        self.parts = parts
        self.shape = self._each(lambda part: part.shape)
        self.dtype = self._each(lambda part: part.dtype)
        self.scale = self._each(lambda part: part.scale)

    def _each(self, change: Callable[[Rows], Any]) -> Any:
        return nested(change, self.parts)

    def __len__(self) -> int:
        return len(flat(self.parts)[0])

    def raw(self, rows: Index) -> Any:
        """Some rows of each field."""
        return self._each(lambda part: part.raw(rows))

    def read(self, rows: Index) -> Any:
        """Some rows of each field as a network gets them."""
        return self._each(lambda part: part.read(rows))

    def whole(self) -> Any:
        """All rows of each field; arrays in memory are not copied."""
        return self._each(lambda part: part.whole())

    def select(self, rows: slice | np.ndarray) -> NestedRows:
        """Some of the rows."""
        return NestedRows(self._each(lambda part: part.select(rows)))

    def reader(self) -> Callable[[tf.Tensor], Any]:
        """See `Rows.reader`; this one gives what the fields give, nested as they are."""
        readers = self._each(lambda part: part.reader())
        return lambda rows: nested(lambda read: read(rows), readers)

    def __repr__(self) -> str:
        return repr(self.parts)


def nested(change: Callable[[Any], Any], value: Any) -> Any:
    """Applies a function to all that a dict, list or tuple holds at any depth, None apart; lists become tuples."""
    if isinstance(value, dict):
        return {key: nested(change, part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return tuple(nested(change, part) for part in value)
    return None if value is None else change(value)
