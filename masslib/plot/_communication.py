"""`communication`: who sends what to whom while several workers train."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from masslib.plot.style import BLUE, GREY, ORANGE, STYLE

_PATTERNS = ("all-reduce", "parameter server")
_RADIUS = 0.28
_LIMITS = (-2.7, 2.8), (-2.1, 1.8)


def communication(megabytes: Mapping[str, float] | None = None, *, workers: int = 2) -> Figure:
    """Draw the two ways in which workers share what they have learned, side by side.

    With all-reduce every worker holds the model, and the gradients are summed around a ring, at every step. With a
    parameter server the model lies on the server: each worker fetches weights and sends gradients whenever it is ready.

    Args:
        megabytes: What each pattern was measured to send per step, in MB: `"all-reduce"` and `"parameter server"`.
        workers: How many workers to draw, 2 to 8.

    Returns:
        The figure, of two panels.

    Raises:
        ValueError: If a pattern is unknown or there are too many workers to draw.

    Example:
        >>> figure = communication({"all-reduce": 2.1, "parameter server": 4.3})
        >>> [axes.get_title("left") for axes in figure.axes]
        ['All-reduce: 2.1 MB per step', 'Parameter server: 4.3 MB per step']
    """
    megabytes = dict(megabytes or {})
    unknown = megabytes.keys() - set(_PATTERNS)
    if unknown:
        raise ValueError(f"megabytes names {sorted(unknown)}; expected {' and '.join(map(repr, _PATTERNS))}")
    if not 2 <= workers <= 8:
        raise ValueError(f"workers={workers!r}: expected 2 to 8, as many as fit into a drawing")
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
        _draw_ring(left, workers)
        _draw_server(right, workers)
        for ax, pattern in zip((left, right), _PATTERNS, strict=True):
            measured = f": {megabytes[pattern]:.1f} MB per step" if pattern in megabytes else ""
            ax.set_title(pattern.capitalize() + measured)
            ax.set_aspect("equal")
            ax.axis("off")
        plt.close(figure)
    return figure


def _draw_ring(ax: Axes, workers: int) -> None:
    angles = np.pi - 2 * np.pi * np.arange(workers) / workers
    places = 1.25 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for number, place in enumerate(places):
        _node(ax, place, f"worker {number}\nmodel", BLUE)
        _arrow(ax, place, places[(number + 1) % workers], BLUE, bend=0.35)
    ax.text(0, 0, "sums of\ngradients", ha="center", va="center", color=GREY)
    ax.set(xlim=_LIMITS[0], ylim=_LIMITS[1])


def _draw_server(ax: Axes, workers: int) -> None:
    server, chief = np.array([0.0, 1.0]), np.array([2.3, 1.0])
    _node(ax, server, "server, model", ORANGE, above=True)
    _node(ax, chief, "chief", GREY, above=True)
    columns = np.linspace(-1.3, 1.3, workers)
    for number, column in enumerate(columns):
        place = np.array([column, -0.9])
        _node(ax, place, f"worker {number}", BLUE)
        _arrow(ax, place, server, BLUE, bend=0.18)
        _arrow(ax, server, place, ORANGE, bend=0.18)
        _arrow(ax, chief, place, GREY, bend=0.0, dashed=True)
    ax.text(columns[0] - 0.1, 0.25, "gradients up,\nweights down", ha="right", va="center", color=GREY)
    ax.text(columns[-1] + 0.75, -0.1, "batches", ha="left", va="center", color=GREY)
    ax.set(xlim=_LIMITS[0], ylim=_LIMITS[1])


def _node(ax: Axes, place: np.ndarray, name: str, color: str, *, above: bool = False) -> None:
    ax.add_patch(plt.Circle(place, _RADIUS, color=color, zorder=2))
    beside = np.array([0, _RADIUS + 0.08])
    where = place + beside if above else place - beside
    ax.text(*where, name, ha="center", va="bottom" if above else "top", color="#222222")


def _arrow(ax: Axes, start: np.ndarray, end: np.ndarray, color: str, *, bend: float, dashed: bool = False) -> None:
    style = {
        "arrowstyle": "-|>",
        "color": color,
        "linestyle": "--" if dashed else "-",
        "connectionstyle": f"arc3,rad={bend}",
        "shrinkA": 22,
        "shrinkB": 22,
    }
    ax.annotate("", end, start, arrowprops=style)
