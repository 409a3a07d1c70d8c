"""Figures of rankings: are the items that a user wants among the first `k`?"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from masslib.evaluation.intervals import GROUPS, groups_of, without_each
from masslib.evaluation.result import Evaluation


def ranking(
    outputs: np.ndarray, y: np.ndarray, users: np.ndarray | None, k: int, classes: tuple[str, ...] | None
) -> Evaluation:
    """Recall and NDCG of the first `k` items of each user, the means over users.

    Args:
        outputs: Scores: one per row, `(n,)` or `(n, 1)`, with `users`; else those of all items, `(n, items)`.
        y: Relevance of at least 0, of the shape of `outputs`; or without `users` the index of the one item, `(n,)`.
        users: The user of each row, `(n,)`; None where each row is one.
        k: How many items count.
        classes: Names of the items, or None.
    """
    found = [_of_users(scores, truth, k) for scores, truth in _by_user(outputs, y, users)]
    figures = np.concatenate(found) if found else np.zeros((0, 2))
    if not len(figures):
        raise ValueError("no user has a relevant item (y above 0) and another one; there is nothing to rank")
    groups = groups_of(len(figures))
    sums = np.zeros((min(len(figures), GROUPS), 3))
    np.add.at(sums, groups, np.insert(figures, 0, 1, axis=1))
    without = {
        name: without_each(lambda it, at=at: it[:, at] / it[:, 0], sums)
        for at, name in ((1, "recall_at_k"), (2, "ndcg_at_k"))
        if len(figures) > 1
    }
    recall, gain = figures.mean(axis=0)
    return Evaluation(
        task="ranking",
        n=len(y),
        recall_at_k=float(recall),
        ndcg_at_k=float(gain),
        k=k,
        counted=len(figures),
        classes=classes,
        without=without,
        units=len(figures),
    )


def _by_user(outputs: np.ndarray, y: np.ndarray, users: np.ndarray | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores and relevance `(users, items)`, one pair of arrays for every number of items."""
    outputs = outputs.reshape(len(outputs), -1)
    if users is None:
        if outputs.shape[1] == 1:
            raise ValueError("the model gives one score per row; pass groups=, which rows belong to which user")
        if y.size == len(y):
            items = y.reshape(-1)
            if (items != np.floor(items)).any() or items.min() < 0 or items.max() >= outputs.shape[1]:
                raise ValueError(
                    f"y has items from {items.min()} to {items.max()}; expected indices below {outputs.shape[1]}"
                )
            y = items[:, None] == np.arange(outputs.shape[1])
        y = _relevance(y, outputs.shape)
        return [(outputs, y)]
    if outputs.shape[1] != 1 or users.shape != (len(outputs),):
        raise ValueError(
            f"groups have shape {users.shape} and the outputs {outputs.shape}; expected one user and one score per row"
        )
    scores, truth = outputs[:, 0], _relevance(y.reshape(len(y), -1), outputs.shape)[:, 0]
    _, numbers, counts = np.unique(users, return_inverse=True, return_counts=True)
    order = np.argsort(numbers, kind="stable")
    starts = np.cumsum(counts) - counts
    pairs = []
    for size in np.unique(counts[counts > 1]):
        rows = order[starts[counts == size][:, None] + np.arange(size)]
        pairs.append((scores[rows], truth[rows]))
    return pairs


def _relevance(y: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if y.shape != shape or y.min() < 0:
        raise ValueError(f"y has shape {y.shape} and values from {y.min()}; expected relevance of at least 0, {shape}")
    return y.astype(float)


def _of_users(scores: np.ndarray, truth: np.ndarray, k: int) -> np.ndarray:
    """Recall and NDCG `(users, 2)`, without the users who want nothing."""
    wanted = (truth > 0).any(axis=1)
    scores, truth = scores[wanted], truth[wanted]
    if not len(scores):
        return np.zeros((0, 2))
    # Items of equal score stand in random order, as sklearn.metrics.ndcg_score takes them, which gives means over users
    # only. Those of a quantized file often are equal.
    first, last = (rankdata(-scores, method, axis=1).astype(int) for method in ("min", "max"))

    def expected(worth: np.ndarray) -> np.ndarray:
        sums = np.insert(np.cumsum(worth), 0, 0)
        return (sums[last] - sums[first - 1]) / (last - first + 1)

    places = np.arange(truth.shape[1])
    discounts = np.where(places < k, 1 / np.log2(places + 2), 0)
    relevant = truth > 0
    recall = (expected((places < k) * 1.0) * relevant).sum(axis=1) / relevant.sum(axis=1)
    ideal = (-np.sort(-truth, axis=1) * discounts).sum(axis=1)
    return np.stack([recall, (expected(discounts) * truth).sum(axis=1) / ideal], axis=1)
