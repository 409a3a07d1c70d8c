"""`history`: loss and accuracy over the epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from masslib.plot.style import BLUE, ORANGE, PALE, STYLE, percent, words


def history(history: Any) -> Figure:
    """Draw loss and accuracy over the epochs, training and validation together.

    Args:
        history: What `fit` returned (of masslib, Keras 3 or tf_keras), or its `.history`: a dict from
            metric name to one value per epoch, `"val_..."` for the validation data.

    Returns:
        The figure: the loss at the left; at the right the accuracy, or else the first other metric, if any.

    Raises:
        TypeError: If `history` is neither.
        ValueError: If it holds no epochs or no loss, or curves of different lengths.

    Example:
        >>> figure = history({"loss": [0.9, 0.5], "accuracy": [0.7, 0.8]})
        >>> [axes.get_title("left") for axes in figure.axes]
        ['Loss', 'Accuracy']
    """
    curves = _curves(history)
    panels = ["loss", *_second_metric(curves)]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.2), squeeze=False)
        figure.set_layout_engine("constrained", w_pad=0.12)
        for ax, metric in zip(axes[0], panels, strict=True):
            _draw_curves(ax, metric, curves)
        if "val_loss" in curves:
            axes[0, 0].legend()
        plt.close(figure)
    return figure


def _curves(history: Any) -> dict[str, np.ndarray]:
    values = getattr(history, "history", history)
    if not isinstance(values, Mapping):
        raise TypeError(f"history is a {type(history).__name__}; expected what fit() returned, or a dict")
    curves = {name: np.asarray(curve, dtype=float) for name, curve in values.items()}
    if "loss" not in curves or curves["loss"].size == 0:
        raise ValueError(f"history has {sorted(curves)}; expected a 'loss' of at least one epoch")
    shapes = {name: curve.shape for name, curve in curves.items()}
    if len(set(shapes.values())) > 1 or curves["loss"].ndim != 1:
        raise ValueError(f"history has curves of shapes {shapes}; expected one number per epoch in each")
    return curves


def _second_metric(curves: Mapping[str, np.ndarray]) -> list[str]:
    """The accuracy under whatever name, else the first other metric, else nothing."""
    others = [n for n in curves if n not in ("loss", "lr", "learning_rate") and not n.startswith("val_")]
    return sorted(others, key=lambda name: "acc" not in name)[:1]


def _draw_curves(ax: Axes, metric: str, curves: Mapping[str, np.ndarray]) -> None:
    epochs = np.arange(1, len(curves["loss"]) + 1)
    marker = "o" if len(epochs) <= 30 else None
    ax.plot(epochs, curves[metric], color=BLUE, marker=marker, label="training")
    validation = curves.get(f"val_{metric}")
    if validation is not None:
        ax.plot(epochs, validation, color=ORANGE, marker=marker, linestyle="--", label="validation")
    ax.set_xlim(0.5, len(epochs) + 0.5)
    ax.xaxis.set_major_locator(ticker.MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    if "acc" in metric:
        ax.yaxis.set_major_formatter(percent)
    ax.grid(axis="y", color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_title("Accuracy" if "acc" in metric else words(metric))
    ax.set_xlabel("Epoch")
