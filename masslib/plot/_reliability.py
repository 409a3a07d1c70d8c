"""`reliability`: is a classifier as often right as it says?"""

from __future__ import annotations

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from masslib.plot.style import BLUE, GREY, ORANGE, PALE, STYLE, figure_of, percent


def reliability(table: np.ndarray, *, ax: Axes | None = None) -> Figure:
    """Draw accuracy against confidence: points below the diagonal are of a model too sure of itself.

    Bars are the share of the rows in each bin; the vertical lines are the gaps whose mean is the expected calibration
    error.

    Args:
        table: `(bins, 3)`: rows, mean confidence and accuracy of each bin, as `Evaluation.reliability`.
        ax: Axes to draw on instead of a new figure.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: If `table` has another shape or no rows.

    References:
        Guo et al. (2017), On calibration of modern neural networks.

    Example:
        >>> reliability([[10, 0.25, 0.2], [30, 0.75, 0.7]]).axes[0].get_title("left")
        'Calibration error 5.0 % (40 rows)'
    """
    table = np.asarray(table, float)
    if table.ndim != 2 or table.shape[1] != 3 or not table[:, 0].sum() > 0:
        raise ValueError(
            f"table has shape {table.shape}; expected (bins, 3): rows, confidence, accuracy, with some rows"
        )
    rows, confidence, accuracy = table[table[:, 0] > 0].T
    shares = table[:, 0] / table[:, 0].sum()
    edges = np.linspace(0, 1, len(table) + 1)
    with plt.rc_context(STYLE):
        figure, ax, own = figure_of(ax, (4.6, 4.4))
        ax.bar(edges[:-1], shares, np.diff(edges), align="edge", color=PALE, linewidth=0, zorder=0)
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (5, 4)), zorder=1)
        ax.vlines(confidence, accuracy, confidence, color=ORANGE, linewidth=1.2, zorder=2)
        ax.plot(confidence, accuracy, "o-", color=BLUE, zorder=3)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(percent)
        ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="Confidence", ylabel="Accuracy")
        error = float(np.average(np.abs(confidence - accuracy), weights=rows))
        ax.set_title(f"Calibration error {100 * error:.1f} % ({rows.sum():,.0f} rows)", pad=24)
        key = "dashed: right as often as sure; grey: rows"
        ax.annotate(key, (0, 1), (0, 8), "axes fraction", "offset points", color=GREY, va="bottom")
        if own:
            plt.close(figure)
    return figure
