"""How many bits a packed file spends on a kernel, in a form that training can lower."""

from __future__ import annotations

import math
from typing import Any

from keras import ops

_LARGEST = 31  # magnitudes beyond it cost as much as it
_PRIOR = 4.0  # entries that a row or column counts besides its own
_LN2 = 0.6931471805599453


def bits(levels: Any, rounded: Any, free: Any = None) -> Any:
    """Estimate the bits of a kernel whose weights are multiples of a step.

    Whether a weight is zero costs what it does given how many are zero in its row and in its column; its sign costs one
    bit, and its magnitude what it does given how often there is such a one. Between two multiples the cost is
    interpolated, so that its gradient points to the cheaper one. The frequencies are those of this moment and have no
    gradient.

    Args:
        levels: The weights in steps, of any shape with the output channels last.
        rounded: The same as whole numbers, without a gradient.
        free: Flat places of the weights that are not held at zero; all of them if absent. What the others cost is
            added, and costs less to compute.

    Returns:
        The sum over the kernel, a scalar.
    """
    matrix = ops.reshape(ops.abs(levels), (-1, levels.shape[-1]))
    known = ops.stop_gradient(ops.reshape(ops.abs(rounded), (-1, levels.shape[-1])))
    logit, held = _logit_of_nonzero(ops.cast(known > 0, "float32")), 0.0
    if free is not None:
        held = ops.sum(ops.softplus(logit))
        matrix, known, logit = (ops.take(ops.reshape(it, (-1,)), free) for it in (matrix, known, logit))
        held = held - ops.sum(ops.softplus(logit))
    zero = ops.softplus(logit) / _LN2
    other = zero - logit / _LN2
    magnitude = _magnitude_bits(known)
    below = ops.stop_gradient(ops.floor(ops.minimum(matrix, _LARGEST - 1)))
    share = ops.minimum(matrix, _LARGEST) - below
    place = ops.cast(below, "int32")
    low = ops.where(place > 0, other + ops.take(magnitude, place), zero)
    high = other + ops.take(magnitude, place + 1)
    return ops.sum((1 - share) * low + share * high) + held / _LN2


def _logit_of_nonzero(nonzero: Any) -> Any:
    """Log-odds of each entry from its row and its column, as if the two were independent."""
    size = math.prod(nonzero.shape)
    overall = (ops.sum(nonzero) + 0.5) / (size + 1)

    def logit(share: Any) -> Any:
        return ops.log(share) - ops.log(1 - share)

    def shrunk(axis: int) -> Any:
        size = nonzero.shape[axis]
        return (ops.sum(nonzero, axis=axis, keepdims=True) + _PRIOR * overall) / (size + _PRIOR)

    return logit(shrunk(0)) + logit(shrunk(1)) - logit(overall)


def _magnitude_bits(known: Any) -> Any:
    """Bits of the sign and of each magnitude from 0, which has none, up to the largest."""
    clipped = ops.cast(ops.minimum(ops.reshape(known, (-1,)), _LARGEST), "int32")
    counts = ops.cast(ops.bincount(clipped, minlength=_LARGEST + 1), "float32")
    # A little more for the small ones, among those that were never seen.
    counts = counts + 1 / (1 + ops.arange(_LARGEST + 1, dtype="float32"))
    return 1 - ops.log(counts / ops.sum(counts[1:])) / _LN2
