"""`images`: a grid of images with labels or predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from masslib._util.checks import check_counts
from masslib.plot.style import ORANGE, PALE, STYLE

# Apart in lightness (L* 29 and 54), so that they differ in grey print as well.
_RIGHT, _WRONG = "#004468", ORANGE
_MOST_IMAGES = 200


def images(
    x: np.ndarray,
    y: np.ndarray | None = None,
    probabilities: np.ndarray | None = None,
    classes: Sequence[str] | None = None,
    columns: int = 8,
) -> Figure:
    """Draw a grid of images with their labels or with a model's predictions.

    With `y` alone the titles are the labels. With `probabilities` they are the predicted class and its
    probability, which a bar below the image repeats. With both, right ones are dark blue; wrong ones are
    orange and name the true class.

    Args:
        x: Images `(n, height, width)`, `(n, height, width, 1)` or `(n, height, width, 3)`, floats in [0, 1]
            or uint8; at most 200.
        y: True class indices `(n,)`.
        probabilities: A model's outputs `(n, classes)`, or `(n,)` or `(n, 1)`, the probability of class 1.
        classes: Names of the classes.
        columns: Images per row.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: If shapes, ranges or counts do not fit.

    Example:
        >>> import numpy as np
        >>> figure = images(np.zeros((3, 28, 28)), y=[0, 1, 1], classes=["shoe", "bag"])
        >>> [axes.get_title() for axes in figure.axes]
        ['shoe', 'bag', 'bag']
    """
    x = _checked_images(x)
    labels = None if y is None else _checked_labels(y, len(x), classes)
    outputs = None if probabilities is None else _checked_probabilities(probabilities, len(x), classes)
    check_counts(columns=(columns, 1))
    columns = min(columns, len(x))
    rows = -(-len(x) // columns)
    titled = 0.0 if labels is outputs is None else 0.4 if labels is None or outputs is None else 0.75
    with plt.rc_context(STYLE | {"axes.titlelocation": "center", "axes.titlepad": 4}):
        figure, grid = plt.subplots(rows, columns, figsize=(1.4 * columns, (1.35 + titled) * rows), squeeze=False)
        figure.set_layout_engine("constrained", h_pad=0.08)
        for i, ax in enumerate(grid.flat):
            ax.set_axis_off()
            if i < len(x):
                ax.imshow(x[i], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                _caption(ax, labels, outputs, classes, i)
            else:
                ax.remove()
        if labels is not None and outputs is not None:
            right = int((outputs.argmax(axis=1) == labels).sum())
            wrong = " (blue); the others (orange) with the true class below" if right < len(x) else ""
            figure.suptitle(f"{right} of {len(x)} right{wrong}")
        plt.close(figure)
    return figure


def _checked_images(x: np.ndarray) -> np.ndarray:
    """Images `(n, height, width)` or `(n, height, width, 3)` as floats in [0, 1]."""
    x = np.asarray(x)
    if x.ndim == 4 and x.shape[-1] == 1:
        x = x[..., 0]
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[-1] != 3) or 0 in x.shape:
        raise ValueError(
            f"x has shape {x.shape}; expected (n, height, width) or (n, height, width, 1 or 3); "
            "for one image pass x[None]"
        )
    if len(x) > _MOST_IMAGES:
        raise ValueError(f"x has {len(x)} images; expected at most {_MOST_IMAGES}: pass some of them, x[:40]")
    if x.dtype == np.uint8:
        return x / 255.0
    if x.dtype.kind != "f" or not (x.min() >= 0 and x.max() <= 1):
        raise ValueError(f"x has {x.dtype} values from {x.min()} to {x.max()}; expected floats in [0, 1] or uint8")
    return x


def _checked_labels(y: np.ndarray, n: int, classes: Sequence[str] | None) -> np.ndarray:
    y = np.asarray(y)
    if y.size != n or y.dtype.kind not in "iub":
        raise ValueError(f"y has shape {y.shape} and dtype {y.dtype}; expected {n} class indices, one per image")
    if classes is not None and not (y.min() >= 0 and y.max() < len(classes)):
        raise ValueError(f"y has labels from {y.min()} to {y.max()}, but classes has {len(classes)} names")
    return y.reshape(-1)


def _checked_probabilities(values: np.ndarray, n: int, classes: Sequence[str] | None) -> np.ndarray:
    """Probabilities `(n, k)` with k >= 2."""
    values = np.asarray(values, dtype=float)
    if values.shape in ((n,), (n, 1)):
        values = np.stack([1 - values.reshape(n), values.reshape(n)], axis=1)
    if values.ndim != 2 or len(values) != n:
        raise ValueError(f"probabilities has shape {values.shape}; expected ({n}, classes), one row per image")
    # Quantized files leave [0, 1] by rounding.
    if not (values.min() >= -0.01 and values.max() <= 1.01):
        raise ValueError(
            f"probabilities has values from {values.min():.3g} to {values.max():.3g}; expected [0, 1]: "
            "pass logits through a softmax first"
        )
    if classes is not None and len(classes) != values.shape[1]:
        raise ValueError(f"classes has {len(classes)} names, but probabilities has shape {values.shape}")
    return values


def _caption(
    ax: Axes,
    labels: np.ndarray | None,
    outputs: np.ndarray | None,
    classes: Sequence[str] | None,
    i: int,
) -> None:
    """Title, and for a prediction the bar of its probability and the true class if it is another."""

    def name(index: int) -> str:
        return str(index if classes is None else classes[index])

    if outputs is None:
        if labels is not None:
            ax.set_title(name(labels[i]), fontsize=10)
        return
    best = int(outputs[i].argmax())
    share = float(np.clip(outputs[i, best], 0, 1))
    wrong = labels is not None and labels[i] != best
    color = _WRONG if wrong else _RIGHT
    ax.set_title(f"{name(best)} {share:.0%}".replace("%", " %"), fontsize=10, color=color)
    for width, fill in ((1.0, PALE), (share, color)):
        ax.add_patch(Rectangle((0, -0.08), width, 0.045, transform=ax.transAxes, color=fill, lw=0, clip_on=False))
    if wrong:
        ax.text(0.5, -0.12, f"true: {name(labels[i])}", transform=ax.transAxes, ha="center", va="top", color=color)
