"""A range coder that codes one way or the other: the model of the weights is written once, for both directions."""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import numpy as np

WORD = np.dtype("<u4")
"""What a coded stream consists of."""


class Code(Protocol):
    """Symbols on their way into a stream, or out of it.

    `values` are what is to be coded; a decoder takes None and returns what it found.
    """

    def bits(self, ones: np.ndarray, values: np.ndarray | None) -> np.ndarray:
        """Code zeros and ones, of which the i-th is a one with the probability `ones[i] / 65536`."""
        ...

    def symbols(self, counts: np.ndarray, size: int, values: np.ndarray | None) -> np.ndarray:
        """Code `size` numbers from 0 up to `len(counts)`, as often as `counts`, which are positive, say."""
        ...


class Encoder:
    """Writes a stream.

    The coder is the range coder of `constriction`: compiled, takes a whole array at a call, and its 1 MB is little
    beside the rest of the light install. Probabilities come from whole numbers or from single operations of IEEE 754,
    so that every machine finds the same ones.

    References:
        Bamler, "Understanding entropy coding with asymmetric numeral systems", 2022, and his package `constriction`.
    """

    def __init__(self) -> None:
        self._stream, self._bernoulli, self._categorical = _constriction()
        self._coder = self._stream.RangeEncoder()

    def bits(self, ones: np.ndarray, values: np.ndarray | None) -> np.ndarray:
        """Append zeros and ones."""
        self._coder.encode(values.astype(np.int32), self._bernoulli, ones / 65536)
        return values

    def symbols(self, counts: np.ndarray, size: int, values: np.ndarray | None) -> np.ndarray:
        """Append numbers."""
        if len(counts) > 1:
            self._coder.encode(values.astype(np.int32), self._categorical(counts, perfect=False))
        return values

    def finish(self) -> bytes:
        """Return the stream."""
        return self._coder.get_compressed().astype(WORD).tobytes()


class Decoder:
    """Reads what an `Encoder` has written.

    Args:
        stream: All of its bytes. Of other bytes it makes other symbols; they do not end.
    """

    def __init__(self, stream: bytes) -> None:
        library, self._bernoulli, self._categorical = _constriction()
        self._coder = library.RangeDecoder(np.frombuffer(stream, WORD).astype(np.uint32))

    def bits(self, ones: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """Take the next zeros and ones."""
        return self._coder.decode(self._bernoulli, ones / 65536)

    def symbols(self, counts: np.ndarray, size: int, values: np.ndarray | None = None) -> np.ndarray:
        """Take the next numbers."""
        if len(counts) == 1:
            return np.zeros(size, np.int32)
        return self._coder.decode(self._categorical(counts, perfect=False), size)


class Cost:
    """Counts the bits that an `Encoder` would write, without writing them: for choosing between models."""

    def __init__(self) -> None:
        self.bits_spent = 0.0

    def bits(self, ones: np.ndarray, values: np.ndarray | None) -> np.ndarray:
        """Count zeros and ones."""
        self.bits_spent -= float(np.log2(np.where(values, ones, 65536 - ones) / 65536).sum())
        return values

    def symbols(self, counts: np.ndarray, size: int, values: np.ndarray | None) -> np.ndarray:
        """Count numbers."""
        self.bits_spent -= float(np.log2(counts / counts.sum())[values].sum())
        return values


@cache
def _constriction() -> tuple[Any, Any, Any]:
    from constriction import stream  # half of the time that it takes to load a small file

    return stream.queue, stream.model.Bernoulli(perfect=False), stream.model.Categorical
