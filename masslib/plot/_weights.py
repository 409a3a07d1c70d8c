"""`weights`: histograms of kernels side by side, such as before and after a compression step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import pyplot as plt
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from masslib.plot.style import BLUE, ORANGE, PALE, STYLE

_BINS = 161
_WIDTH = 3.9


def weights(
    kernels: Mapping[str, np.ndarray], *, limits: tuple[float, float] | None = None, log: bool = True
) -> Figure:
    """Draw how often each value occurs in some kernels, side by side on the same axes.

    On their logarithmic axis a few values that hold most of the weights and a wide bell of others can be seen
    together. The weights that are exactly zero are one orange bar. Each panel tells the share of the zeros and the
    number of distinct values.

    Args:
        kernels: Title of the panel -> weights of any shape, such as `measure.weights(path)[name]`; two to four of them
            can be read.
        limits: The values to show; default: all. Narrow ones show the steps of quantized weights.
        log: Whether the counts have a logarithmic axis, which no window needs in which they are alike.

    Returns:
        The matplotlib figure.

    Raises:
        TypeError: If `kernels` is no dict.
        ValueError: If it is empty, an array is, or holds NaN; or the limits are not in order.

    Example:
        >>> import numpy as np
        >>> kernel = np.random.default_rng(0).normal(size=(20, 10))
        >>> figure = weights({"before": kernel, "after": np.where(abs(kernel) < 1, 0, kernel)})
        >>> [axes.get_title("left") for axes in figure.axes]
        ['before', 'after']
    """
    values = _checked_kernels(kernels)
    low, high = _checked_limits(limits) if limits is not None else _limits(values)
    # An odd number of bins around 0, so that one of them is centred on it.
    reach = max(abs(low), abs(high))
    edges = np.linspace(-reach, reach, _BINS + 1)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(values), figsize=(_WIDTH * len(values), 3.0), sharex=True, sharey=True, squeeze=False
        )
        figure.set_layout_engine("constrained", w_pad=0.1)
        for ax, (title, kernel) in zip(axes[0], values.items(), strict=True):
            _draw(ax, title, kernel, edges)
        axes[0, 0].set(xlim=(low, high), ylabel="Weights, log scale" if log else "Weights")
        if log:
            axes[0, 0].set(yscale="log")
            axes[0, 0].set_ylim(bottom=0.7)
            axes[0, 0].yaxis.set_minor_formatter(ticker.NullFormatter())
        axes[0, 0].yaxis.set_major_formatter(ticker.FuncFormatter(lambda count, _: f"{count:,.0f}"))
        plt.close(figure)
    return figure


def _checked_kernels(kernels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not isinstance(kernels, Mapping):
        raise TypeError(f"kernels is a {type(kernels).__name__}; expected a dict from title to weights")
    if not kernels:
        raise ValueError("kernels is empty; expected at least one title and its weights")
    values = {str(title): np.asarray(kernel, dtype=float).ravel() for title, kernel in kernels.items()}
    for title, kernel in values.items():
        if not kernel.size or not np.isfinite(kernel).all():
            raise ValueError(f"kernels[{title!r}] has {kernel.size} values; expected at least one, all of them finite")
    return values


def _checked_limits(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    if not low < high:
        raise ValueError(f"limits={limits!r}: expected the lower one first")
    return float(low), float(high)


def _limits(values: Mapping[str, np.ndarray]) -> tuple[float, float]:
    low, high = (pick(pick(kernel) for kernel in values.values()) for pick in (min, max))
    margin = 0.03 * (high - low) or 1.0
    return low - margin, high + margin


def _draw(ax: Axes, title: str, kernel: np.ndarray, edges: np.ndarray) -> None:
    zeros = int((kernel == 0).sum())
    counts, _ = np.histogram(kernel[kernel != 0], edges)
    width = edges[1] - edges[0]
    ax.bar(edges[:-1] + width / 2, counts, width, color=BLUE)
    if zeros:
        ax.bar(0, zeros, width, color=ORANGE)
    distinct = len(np.unique(kernel))
    ax.set_title(title, pad=22)
    ax.annotate(
        f"{f'{100 * zeros / kernel.size:.1f} %' if zeros else 'no'} zeros, {distinct:,} distinct values",
        (0, 1),
        (0, 6),
        "axes fraction",
        "offset points",
        color=ORANGE if zeros else "black",
        va="bottom",
    )
    ax.set_xlabel("Value of the weight")
    ax.grid(axis="y", color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)
