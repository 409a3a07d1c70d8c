"""`confusion`: a confusion matrix, counts as numbers and shares as colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from masslib.plot.style import GREY, STYLE, figure_of, percent

_MOST_COUNTED = 25


def confusion(matrix: np.ndarray, classes: Sequence[str] | None = None, *, ax: Axes | None = None) -> Figure:
    """Draw a confusion matrix: counts as numbers, shares of each true class as colours.

    Args:
        matrix: Counts `(k, k)`; rows are true classes, columns predicted ones. Above 25 classes the numbers
            are left out.
        classes: Names of the `k` classes; default: their indices.
        ax: Axes to draw on instead of a new figure.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: If `matrix` is not square, not made of counts, or does not match `classes`.

    Example:
        >>> confusion([[8, 2], [1, 9]], ["cat", "dog"]).axes[0].get_title("left")
        'Confusion matrix: 85.0 % of 20 right'
    """
    matrix = _checked_matrix(matrix)
    k = len(matrix)
    names = [str(c) for c in (range(k) if classes is None else classes)]
    if len(names) != k:
        raise ValueError(f"classes has {len(names)} names, but the matrix has shape {matrix.shape}")
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    with plt.rc_context(STYLE):
        side = min(2.2 + 0.45 * k, 9.0)
        figure, ax, own = figure_of(ax, (side + 1.0, side))
        # The square root: a share of a few per cent is where the model goes wrong, and has to be seen.
        image = ax.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
        _name_classes(ax, names)
        if k <= _MOST_COUNTED:
            _write_counts(ax, matrix, shares)
        bar = figure.colorbar(image, ax=ax, shrink=0.6, aspect=25, ticks=[0, 0.05, 0.25, 0.5, 1])
        bar.ax.yaxis.set_major_formatter(percent)
        bar.ax.minorticks_off()
        bar.set_label("share of the true class")
        bar.outline.set_visible(False)
        n = int(matrix.sum())
        ax.set_title(f"Confusion matrix: {100 * np.trace(matrix) / n:.1f} % of {n:,} right")
        if own:
            plt.close(figure)
    return figure


def _checked_matrix(matrix: np.ndarray) -> np.ndarray:
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise ValueError(f"matrix has shape {matrix.shape}; expected (k, k) with at least 2 classes")
    if matrix.dtype.kind not in "iu" or matrix.min() < 0 or matrix.sum() == 0:
        raise ValueError(
            f"matrix has {matrix.dtype} values from {matrix.min()} to {matrix.max()}; "
            "expected counts (integers of at least 0, not all 0)"
        )
    return matrix


def _name_classes(ax: Axes, names: Sequence[str]) -> None:
    ticks = np.arange(len(names))
    slanted = max(map(len, names)) > 3
    ax.set_xticks(ticks, names, rotation=45 if slanted else 0, ha="right" if slanted else "center")
    if slanted:
        for label in ax.get_xticklabels():
            label.set_rotation_mode("anchor")
    ax.set_yticks(ticks, names)
    ax.tick_params(length=0, labelsize=min(10, 300 / len(names)))
    ax.spines[:].set_visible(False)
    ax.set_xlabel("Predicted class")
    ax.set_ylabel("True class")


def _write_counts(ax: Axes, matrix: np.ndarray, shares: np.ndarray) -> None:
    for row, column in np.ndindex(matrix.shape):
        count = matrix[row, column]
        color = "white" if shares[row, column] > 0.45 else GREY if count == 0 else "black"
        ax.text(column, row, f"{count}", ha="center", va="center", color=color, fontsize=10)
