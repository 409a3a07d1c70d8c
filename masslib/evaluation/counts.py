"""Figures of classes from three counts per class: right, predicted and true.

The counts stand in arrays `(..., 3, k)`; so one function gives the figure of all rows, and those without each group of
rows. A weighted count is a sum of weights.
"""

from __future__ import annotations

import numpy as np

from masslib.evaluation.intervals import GROUPS

RIGHT, PREDICTED, TRUE = range(3)


def no_counts(rows: int, k: int) -> np.ndarray:
    """Counts `(groups, 3, k)` of nothing, for as many groups as `groups_of(rows)` has."""
    return np.zeros((min(rows, GROUPS), 3, k))


def count_classes(
    counts: np.ndarray, y: np.ndarray, predicted: np.ndarray, groups: np.ndarray, weights: np.ndarray | None
) -> None:
    """Add labels `(m,)` and predictions to counts `(groups, 3, k)`."""
    right = y == predicted
    for place, classes, which in ((RIGHT, y, right), (PREDICTED, predicted, ...), (TRUE, y, ...)):
        shares = None if weights is None else weights[which]
        where = groups[which] * counts.shape[2] + classes[which]
        found = np.bincount(where.reshape(-1), shares if shares is None else shares.reshape(-1), counts[:, 0].size)
        counts[:, place] += found.reshape(counts[:, 0].shape)


def count_labels(
    counts: np.ndarray, y: np.ndarray, predicted: np.ndarray, groups: np.ndarray, weights: np.ndarray | None
) -> None:
    """Add labels `(m, k)` of True and False and predictions to counts `(groups, 3, k)`."""
    shares = 1 if weights is None else weights[:, None]
    for place, flags in ((RIGHT, y & predicted), (PREDICTED, predicted), (TRUE, y)):
        np.add.at(counts[:, place], groups, flags * shares)


def accuracy(counts: np.ndarray) -> np.ndarray:
    """Share of all that is right."""
    return _ratio(counts[..., RIGHT, :].sum(axis=-1), counts[..., TRUE, :].sum(axis=-1))


def precision(counts: np.ndarray) -> np.ndarray:
    """Right / predicted, per class; 0 for a class never predicted."""
    return _ratio(counts[..., RIGHT, :], counts[..., PREDICTED, :], 0.0)


def recall(counts: np.ndarray) -> np.ndarray:
    """Right / true, per class; 0 for a class that is absent."""
    return _ratio(counts[..., RIGHT, :], counts[..., TRUE, :], 0.0)


def f1(counts: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and recall, per class; NaN for a class neither true nor predicted."""
    return _ratio(2 * counts[..., RIGHT, :], counts[..., PREDICTED, :] + counts[..., TRUE, :])


def micro_f1(counts: np.ndarray) -> np.ndarray:
    """F1 over all labels together."""
    return np.nan_to_num(f1(counts.sum(axis=-1, keepdims=True)))[..., 0]


def intersection_over_union(counts: np.ndarray) -> np.ndarray:
    """Right / (true or predicted), per class; NaN for a class neither true nor predicted."""
    right = counts[..., RIGHT, :]
    return _ratio(right, counts[..., PREDICTED, :] + counts[..., TRUE, :] - right)


def mean_of_present(figures: np.ndarray) -> np.ndarray:
    """Mean over the classes whose figure is not NaN."""
    present = ~np.isnan(figures)
    return _ratio(np.nansum(figures, axis=-1), present.sum(axis=-1))


def _ratio(above: np.ndarray, below: np.ndarray, otherwise: float = np.nan) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(above), otherwise), where=below > 0)
