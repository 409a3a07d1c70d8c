"""`sensitivity`: what the accuracy loses when one layer at a time is treated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from masslib.plot.style import COLOURS, FRACTIONS, GREY, PALE, STYLE, figure_of, percent, words

# Technique -> title, label, and what is left at a level, by which the levels are spaced
_WORDS: dict[str, tuple[str, str, Callable[[float], float]]] = {
    "sparsity": ("Zeros", "Weights of the layer set to zero, spaced by the log of the rest", lambda level: 1 - level),
    "rank": ("A lower rank", "Singular values of the layer kept, log scale", lambda level: level),
    "bits": ("Fewer bits", "Bits per weight of the layer", lambda level: level),
}
_DASHES = ("-", "--", ":", "-.")
# More curves cannot be told from each other.
_MOST = 12
# Of the axis, between two ticks that have their level written below
_CLOSEST = 0.08


def sensitivity(
    table: Any,
    baseline: float,
    technique: str = "sparsity",
    *,
    metric: str = "accuracy",
    small_is_good: bool = False,
    most: int = _MOST,
    ax: Axes | None = None,
) -> Figure:
    """Draw the accuracy against the level, one curve per layer, from gentle at the left to strong at the right.

    Args:
        table: Accuracies, a `pandas.DataFrame` with one row per layer and one column per level; `Sensitivity.table`.
        baseline: Accuracy of the untouched model, the dashed line.
        technique: `"sparsity"`, `"rank"` or `"bits"`, for the words.
        metric: Name of what the table holds.
        small_is_good: Whether a small metric is good, as an error is.
        most: Of more layers those are drawn that lose most on average, and the axis says so.
        ax: Axes to draw on instead of a new figure.

    Returns:
        The matplotlib figure.

    Raises:
        TypeError: If `table` is not a DataFrame.
        ValueError: If it is empty or the technique is unknown.

    Example:
        >>> import pandas
        >>> table = pandas.DataFrame({0.5: [0.9, 0.9], 0.9: [0.9, 0.5]}, index=["dense", "conv"])
        >>> sensitivity(table, 0.91).axes[0].get_xlabel()
        'Weights of the layer set to zero, spaced by the log of the rest'
    """
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"table is a {type(table).__name__}; expected the .table of what masslib.sensitivity returns")
    if table.empty or technique not in _WORDS:
        raise ValueError(
            f"expected a table with layers and levels, and one of {', '.join(map(repr, _WORDS))}; got "
            f"{len(table)} rows and {technique!r}"
        )
    means = table.mean(axis=1)
    chosen = set((means.nlargest(most) if small_is_good else means.nsmallest(most)).index)
    with plt.rc_context(STYLE):
        figure, ax, own = figure_of(ax, (7.2, 4.0))
        title, label, left = _WORDS[technique]
        places = [left(level) for level in table.columns]
        for index, (name, row) in enumerate(table[table.index.isin(chosen)].iterrows()):
            style = _DASHES[index // len(COLOURS) % len(_DASHES)]
            ax.plot(places, row, style, marker="o", color=COLOURS[index % len(COLOURS)], label=str(name))
        ax.axhline(baseline, color=GREY, linewidth=1, linestyle=(0, (5, 4)), zorder=1)
        ax.set_xscale("linear" if technique == "bits" else "log")
        ax.set_xticks(places, _ticks(list(table.columns), places, technique))
        ax.xaxis.set_minor_locator(ticker.NullLocator())
        ax.invert_xaxis()
        if metric in FRACTIONS:
            ax.yaxis.set_major_formatter(ticker.FuncFormatter(percent))
        ax.grid(axis="y", color=PALE, linewidth=0.6)
        ax.set_axisbelow(True)
        hidden = len(table) - len(chosen)
        ax.set_xlabel(label + (f"\nnot shown: {hidden} layers that lose less" if hidden else ""))
        ax.set_ylabel(words(metric))
        ax.set_title(f"{title} that each layer bears, alone and without training")
        # Beside the axes, where no curve runs.
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), title="dashed grey: untouched", alignment="left")
        if own:
            plt.close(figure)
    return figure


def _ticks(levels: Sequence[float], places: Sequence[float], technique: str) -> list[str]:
    """What stands at each level; nothing where it would run into its neighbour."""
    across = np.asarray(places, dtype=float) if technique == "bits" else np.log(places)
    shown: list[int] = []
    for index, place in enumerate(across):
        if not shown or abs(place - across[shown[-1]]) >= _CLOSEST * np.ptp(across):
            shown.append(index)
    return [_level(level, technique) if index in shown else "" for index, level in enumerate(levels)]


def _level(level: float, technique: str) -> str:
    return f"{level:g}" if technique == "bits" else percent(level)
