"""Whether a classifier is as often right as it says: expected calibration error and the reliability behind it."""

from __future__ import annotations

import numpy as np

BINS = 15


def reliability(confidence: np.ndarray, right: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Sort predictions into 15 bins of equal width by their confidence.

    Args:
        confidence: Probability `(n,)` of the predicted class.
        right: Whether it is the true one, `(n,)`.
        weights: Weights `(n,)` of the rows.

    Returns:
        `(15, 3)`: rows (the sum of their weights), mean confidence and accuracy of each bin; NaN where it is empty.
    """
    shares = np.ones(len(right)) if weights is None else weights
    # Quantized probabilities leave [0, 1] by rounding.
    bins = np.clip(np.ceil(confidence * BINS) - 1, 0, BINS - 1).astype(int)
    rows = np.bincount(bins, shares, BINS)
    sums = [np.bincount(bins, shares * values, BINS) for values in (confidence, right)]
    means = [np.divide(it, rows, out=np.full(BINS, np.nan), where=rows > 0) for it in sums]
    return np.stack([rows, *means], axis=1)


def calibration_error(table: np.ndarray) -> float:
    """Expected calibration error: the mean distance of confidence and accuracy, over the rows of all bins.

    Args:
        table: As `reliability` gives it.

    References:
        Guo et al. (2017), On calibration of modern neural networks.

    Example:
        >>> table = reliability(np.array([0.9, 0.9, 0.6, 0.6]), np.array([True, True, True, False]))
        >>> round(calibration_error(table), 3)
        0.1
    """
    rows, confidence, accuracy = table[table[:, 0] > 0].T
    return float(np.average(np.abs(confidence - accuracy), weights=rows))
