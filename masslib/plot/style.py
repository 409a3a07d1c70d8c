"""What the figures have in common: colours, sizes of text, and the words and numbers on their axes.

Colours: Okabe & Ito (2008), Color universal design.
"""

from __future__ import annotations

# pyplot, because importing it makes IPython draw figures; a bare Figure would be shown as text.
from matplotlib import cycler
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREY, PALE = "#0072B2", "#D55E00", "#6E6E6E", "#D9D9D9"
# Without yellow, which does not show on white; told apart by people who do not see red and green.
COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
# Figures that are shown in per cent
FRACTIONS = ("accuracy", "valid_accuracy", "macro_f1", "micro_f1", "precision", "recall", "f1", "mean_iou")
# `plt.rcParams.update(masslib.plot.style.STYLE)` gives it to figures of one's own.
STYLE = {
    "axes.prop_cycle": cycler(color=COLOURS),
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": "#222222",
    "axes.grid": False,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "#222222",
    "ytick.labelcolor": "#222222",
    "figure.titlesize": 11,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
}


def figure_of(ax: Axes | None, size: tuple[float, float]) -> tuple[Figure, Axes, bool]:
    """Figure, axes, and whether they were made here."""
    if ax is None:
        figure, ax = plt.subplots(figsize=size, layout="constrained")
        return figure, ax, True
    if not isinstance(ax, Axes):
        raise TypeError(f"ax is a {type(ax).__name__}; expected matplotlib Axes")
    return ax.get_figure(root=True), ax, False


def percent(fraction: float, _: object = None) -> str:
    return f"{100 * fraction:.4g} %"


def words(name: str) -> str:
    return name.upper() if name in ("auc", "mae", "mse", "rmse") else name.replace("_", " ").capitalize()
