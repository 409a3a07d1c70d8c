"""How far a figure, or the difference between two models, can be off: intervals of 95 %.

Accuracies over rows have closed forms: Wilson's interval, and for the difference on the same rows that of Agresti &
Min. All other figures are left to the jackknife: the figure is computed again without each of up to 400 groups of rows,
which needs only the sums of every group, whatever the size of the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from masslib.evaluation.result import Evaluation

GROUPS = 400
_LEVEL = 0.95

Interval = tuple[float, float]


def groups_of(n: int, most: int = GROUPS) -> np.ndarray:
    """The group `(n,)` of each row, the same for the same `n`: at most so many random groups of equal size."""
    if n <= most:
        return np.arange(n)
    return np.random.default_rng(n).permutation(np.arange(n) % most)


def without_each(figure: Callable[[np.ndarray], np.ndarray], sums: np.ndarray) -> np.ndarray:
    """A figure of sums over rows, without each group.

    Args:
        figure: Sums `(groups, ...)` -> figures `(groups,)`.
        sums: Of the rows of each group, `(groups, ...)`.
    """
    return figure(sums.sum(axis=0) - sums)


def jackknife(value: float, without: np.ndarray, n: int) -> Interval:
    """The interval of a figure from its values without each group.

    Args:
        value: The figure, or a difference of two.
        without: The same without each group, `(groups,)`.
        n: How many rows (or users) there are; their groups are those of `groups_of(n, groups)`.

    References:
        Busing, Meijer & Van der Leeden (1999), Delete-m jackknife for unequal m.
    """
    from scipy.stats import t

    groups = len(without)
    if groups < 2 or not np.isfinite(without).all():
        return math.nan, math.nan
    shares = n / np.bincount(groups_of(n, groups))
    pseudo = shares * value - (shares - 1) * without
    error = math.sqrt(float(np.mean((pseudo - pseudo.mean()) ** 2 / (shares - 1))))
    half = float(t.ppf((1 + _LEVEL) / 2, groups - 1)) * error
    return value - half, value + half


def wilson(right: int, n: int) -> Interval:
    """Wilson's score interval of a share."""
    from scipy.stats import binomtest

    interval = binomtest(right, n).proportion_ci(_LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def difference(one: Evaluation, other: Evaluation, figure: str = "accuracy") -> tuple[float, float, float]:
    """How much higher a figure is for one model than for another, on the same rows, with its 95 % interval.

    Both have seen the same rows, so that what makes a row hard falls out of the difference: its interval is narrower
    than the two intervals of the models suggest.

    Args:
        one: Evaluation of a model.
        other: Evaluation of another one on the same data.
        figure: Name of a figure that both have.

    Returns:
        `(difference, low, high)`; the bounds are NaN for figures without an interval, such as `mean_ap`.

    Raises:
        ValueError: If the evaluations are of other rows, or one lacks the figure.

    References:
        Accuracies: Agresti & Min (2005), Simple improved confidence intervals for comparing matched proportions. Other
        figures: the delete-group jackknife, see `Evaluation.intervals`.

    Example:
        >>> from masslib.evaluation import evaluate
        >>> class Echo:
        ...     def predict(self, x):
        ...         return x
        >>> y = np.arange(1000) % 2
        >>> good, bad = y * 0.8 + 0.1, np.where(np.arange(1000) < 50, 1 - y, y)
        >>> one, other = (evaluate(Echo(), (x, y), task="binary") for x in (good, bad))
        >>> [round(float(it), 3) for it in difference(one, other)]
        [0.05, 0.036, 0.064]
    """
    values = [getattr(it, figure, None) for it in (one, other)]
    if one.n != other.n or one.units != other.units or None in values:
        raise ValueError(f"cannot compare {figure!r} of {one!r} and {other!r}; expected the same data and task")
    gap = values[0] - values[1]
    if figure == "accuracy" and one.right is not None and other.right is not None:
        return (gap, *matched(one.right, other.right))
    parts = [it.without.get(figure) for it in (one, other)]
    if parts[0] is None or parts[1] is None:
        return gap, math.nan, math.nan
    return (gap, *jackknife(gap, parts[0] - parts[1], one.units))


def matched(one: np.ndarray, other: np.ndarray) -> Interval:
    """Interval of the difference of two accuracies from which rows `(n,)` are right; see `difference`."""
    from scipy.stats import norm

    gained, lost, n = int((one & ~other).sum()) + 0.5, int((other & ~one).sum()) + 0.5, len(one) + 2
    middle = (gained - lost) / n
    half = float(norm.ppf((1 + _LEVEL) / 2)) * math.sqrt((gained + lost) / n - middle**2) / math.sqrt(n)
    return middle - half, middle + half
