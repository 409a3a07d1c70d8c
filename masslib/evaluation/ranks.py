"""Area under the ROC curve, and what each row contributes to it."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from masslib.evaluation.intervals import GROUPS, groups_of


def auc_without_each(y: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The mean AUC over classes without each group of rows, `(groups,)`, to first order.

    Args:
        y: Labels of True and False `(n, k)`, both in every column.
        scores: `(n, k)`.

    References:
        DeLong, DeLong & Clarke-Pearson (1988), Comparing the areas under two or more correlated receiver operating
        characteristic curves; by ranks: Sun & Xu (2014).
    """
    n = len(y)
    shares = np.zeros(n)
    areas = []
    for truth, score in zip(y.T, scores.T, strict=True):
        positive, negative = np.flatnonzero(truth), np.flatnonzero(~truth)
        ranks = rankdata(score)
        # Of each positive row the share of negative ones below, of each negative row that of positive ones above.
        above = (ranks[positive] - rankdata(score[positive])) / len(negative)
        below = 1 - (ranks[negative] - rankdata(score[negative])) / len(positive)
        area = above.mean()
        shares[positive] += area + n / len(positive) * (above - area)
        shares[negative] += area + n / len(negative) * (below - area)
        areas.append(area)
    groups = groups_of(n)
    sums = np.bincount(groups, shares / len(areas), min(n, GROUPS))
    rest = n - np.bincount(groups, minlength=min(n, GROUPS))
    return (sums.sum() - sums) / np.maximum(rest, 1)
