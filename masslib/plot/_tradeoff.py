"""`tradeoff`: quality against size, one named point per model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from masslib.plot.labels import label_points
from masslib.plot.style import BLUE, FRACTIONS, GREY, PALE, STYLE, figure_of, words

_NAMES = {
    "gzipped_kb": "Gzipped size (kB)",
    "size_kb": "File size (kB)",
    "accuracy": "Test accuracy",
    "valid_accuracy": "Validation accuracy",
    "macro_f1": "Macro F1",
    "auc": "AUC",
    "median_ms": "Median latency (ms)",
    "p95_ms": "95th percentile latency (ms)",
}
_NOTE = "median_ms"
# One percentage point: below it lies the noise of most test sets, which must not look like a ranking.
_LEAST_SPAN = 0.01
_MARGIN = 0.18  # above and below the points, as a fraction of what they span


def tradeoff(
    table: Any,
    x: str = "gzipped_kb",
    y: str = "accuracy",
    *,
    note: str | None = _NOTE,
    baseline: str | None = None,
    limit: float | None = None,
    rivals: Sequence[str] = (),
    small_is_good: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draw what compression costs: quality against size, one named point per model.

    Blue points are the ones worth a look: no other model is as good and smaller, or as small and better. Diamonds are
    rivals, which did not come from the same model.
    The dashed line is the quality of the baseline. Where the table has its interval of confidence, as that of
    `compare` does, the interval is shaded: how far the test itself can be off. An axis of accuracy, F1, precision or
    recall spans at least one percentage point, so that differences within the noise look small. Rows without `x` or
    `y` are left out and named below the axis.

    Args:
        table: A `pandas.DataFrame` with one row per model, the index being the names.
        x: Column for the horizontal, logarithmic axis; small is good.
        y: Column for the vertical axis; large is good unless `small_is_good`.
        note: Column written behind each name, or None; the default is passed over where the table lacks it.
        baseline: Name of the float model; default: the first row.
        limit: The least quality that is accepted: a dotted line instead of the band, and hollow points below it (above
            it, if `small_is_good`).
        rivals: Names of the rows that are drawn as diamonds.
        small_is_good: Whether a small `y` is good, as an error is.
        ax: Axes to draw on instead of a new figure.

    Returns:
        The matplotlib figure.

    Raises:
        TypeError: If `table` is not a DataFrame.
        ValueError: If a column or the baseline is missing, or no row can be drawn.

    Example:
        >>> import pandas
        >>> table = pandas.DataFrame({"gzipped_kb": [1700, 60], "accuracy": [0.92, 0.91]}, ["float", "int8"])
        >>> tradeoff(table).axes[0].get_xlabel()
        'Gzipped size (kB), log scale'
    """
    points, missing, baseline = _checked_points(table, x, y, baseline)
    if note not in (None, _NOTE, *table.columns):
        raise ValueError(f"note={note!r} is no column of the table; it has {', '.join(map(str, table.columns))}")
    with plt.rc_context(STYLE):
        figure, ax, own = figure_of(ax, (7.2, 4.2))
        sign = -1 if small_is_good else 1
        accepted = sign * points[y].to_numpy() >= (-np.inf if limit is None else sign * limit - 1e-9)
        best = _pareto(points[x].to_numpy(), sign * points[y].to_numpy()) & accepted
        edges = np.where(best, BLUE, GREY)
        faces = np.where(accepted, edges, "white")
        diamonds = points.index.isin(list(rivals))
        for marker, which in (("o", ~diamonds), ("D", diamonds)):
            some = points[which]
            ax.scatter(some[x], some[y], s=46, zorder=3, marker=marker, color=faces[which], edgecolors=edges[which])
        ax.set_xscale("log")
        ax.margins(x=0.12, y=_MARGIN)
        _label_axes(ax, points, x, y, missing, limit)
        _draw_lines(ax, points, y, baseline, limit, small_is_good, bool(diamonds.any()))
        label_points(figure, ax, points, x, y, _labels(points, note))
        if own:
            plt.close(figure)
    return figure


def _checked_points(table: Any, x: str, y: str, baseline: str | None) -> tuple[Any, list[str], str]:
    """The rows that can be drawn, the names of the others, and the name of the baseline."""
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"table is a {type(table).__name__}; expected a pandas DataFrame with one row per model")
    for column in (x, y):
        if column not in table.columns:
            raise ValueError(f"the table has no column {column!r}; it has {', '.join(map(str, table.columns))}")
    if not table.index.is_unique:
        raise ValueError("the table names a model twice; expected an index of unique names")
    if baseline is not None and baseline not in table.index:
        raise ValueError(f"baseline={baseline!r} is not in the table; it has {', '.join(map(str, table.index))}")
    points = table[np.isfinite(table[[x, y]].astype(float)).all(axis=1)]
    if points.empty:
        raise ValueError(f"no row of the table has both {x!r} and {y!r}")
    if (points[x] <= 0).any():
        raise ValueError(f"{x!r} has values of 0 or less, which a logarithmic axis cannot show")
    missing = [str(name) for name in table.index.difference(points.index, sort=False)]
    return points, missing, table.index[0] if baseline is None else baseline


def _labels(points: Any, note: str | None) -> list[str]:
    """Names, with the note behind them where there is one."""
    if note is None or note not in points.columns:
        return [str(name) for name in points.index]
    return [
        f"{name}, {_in_units(value, note)}" if np.isfinite(value) else str(name)
        for name, value in points[note].astype(float).items()
    ]


def _in_units(value: float, column: str) -> str:
    if not column.endswith("_ms"):
        return f"{value:.3g}"
    return f"{value:.1f} ms" if value >= 1 else f"{1000 * value:.0f} µs"


def _pareto(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """True where no other point has smaller or equal `x` and larger or equal `y`, one of them strictly."""
    better = (x <= x[:, None]) & (y >= y[:, None]) & ((x < x[:, None]) | (y > y[:, None]))
    return ~better.any(axis=1)


def _draw_lines(
    ax: Axes, points: Any, y: str, baseline: str, limit: float | None, small_is_good: bool, rivals: bool
) -> None:
    """What the points are to be compared with, and the key to it above the axes."""
    key = []
    if limit is not None:
        ax.axhline(limit, color=GREY, linewidth=1, linestyle=":", zorder=1)
        key += [f"dotted: the {'most' if small_is_good else 'least'} accepted"]
    if baseline in points.index:
        ax.axhline(points.loc[baseline, y], color=GREY, linewidth=1, linestyle=(0, (5, 4)), zorder=1)
        key.insert(0, f"dashed: {baseline}")
        bounds = points.reindex(columns=["low", "high"]).loc[baseline].astype(float)
        if limit is None and y in ("accuracy", points.columns[0]) and np.isfinite(bounds).all():
            seen = ax.get_ylim()
            ax.axhspan(*bounds, color=PALE, alpha=0.35, linewidth=0, zorder=0)
            ax.set_ylim(seen)
            key[0] += " and its 95 % interval"
    key += [f"blue: none further left is as {'low' if small_is_good else 'high'}"]
    lines = ["; ".join(key), *(["diamonds: rivals"] if rivals else [])]  # on one line, it would not fit
    ax.annotate("\n".join(lines), (0, 1), (0, 8), "axes fraction", "offset points", color=GREY, va="bottom")
    ax.set_title(ax.get_title("left"), pad=10 + 14 * len(lines))


def _label_axes(ax: Axes, points: Any, x: str, y: str, missing: Sequence[str], limit: float | None) -> None:
    xlabel, ylabel = (_NAMES.get(name, words(name)) for name in (x, y))
    ax.xaxis.set_major_locator(_size_ticks(points[x].max() / points[x].min()))
    ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,g}"))
    ax.xaxis.set_minor_locator(ticker.NullLocator())
    if y in FRACTIONS:
        ax.yaxis.set_major_formatter(ticker.PercentFormatter(1, symbol=" %"))
        heights = [*points[y], *([] if limit is None else [limit])]
        middle = (max(heights) + min(heights)) / 2
        if (1 + 2 * _MARGIN) * np.ptp(heights) < _LEAST_SPAN:
            ax.set_ylim(middle - _LEAST_SPAN / 2, middle + _LEAST_SPAN / 2)
    ax.grid(axis="y", color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel(f"{xlabel}, log scale" + (f"\nnot shown: {', '.join(missing)}" if missing else ""))
    ax.set_ylabel(ylabel)
    ax.set_title(f"{ylabel} against {xlabel[0].lower()}{xlabel[1:].split(' (')[0]}")


def _size_ticks(span: float) -> ticker.Locator:
    """A handful of round numbers on a logarithmic axis, however much of it is in use."""
    if span < 1.5:
        return ticker.MaxNLocator(6)
    return ticker.LogLocator(subs=tuple(range(1, 10)) if span < 4 else (1, 2, 5) if span < 300 else (1,))
