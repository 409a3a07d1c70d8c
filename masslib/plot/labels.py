"""`label_points`: names beside the points of a figure, where they hit nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from masslib.plot.style import GREY

_CLEARANCE = 10  # pixels


def label_points(figure: Figure, ax: Axes, points: Any, x: str, y: str, labels: Sequence[str]) -> None:
    """Write each label beside its point, where it hits no point and no other label."""
    figure.draw_without_rendering()  # fixes the layout, on which distances depend
    unit = figure.dpi / 72
    dots = ax.transData.transform(points[[x, y]].to_numpy(dtype=float))
    taken = [Bbox([dot - 5 * unit, dot + 5 * unit]) for dot in dots]
    frame, lines, texts, leaders = ax.get_window_extent(), [], [], []
    for line in ax.lines:
        height = ax.transData.transform((1, line.get_ydata()[0]))[1]
        lines.append(Bbox([(frame.x0, height - unit), (frame.x1, height + unit)]))
    for i in np.argsort(dots[:, 0]):
        trial = ax.text(0, 0, labels[i], transform=None)
        size = np.array(trial.get_window_extent().size) / unit
        trial.remove()
        spots = [(Bbox.from_bounds(*(dots[i] + unit * o), *(unit * size)), o, far) for o, far in _spots(size)]
        box, offset, far = min(
            spots,
            key=lambda spot, i=i: (
                _overlap(spot[0], [*taken, *texts, *leaders], frame),
                spot[2] and any(text.contains(*point) for text in texts for point in _leader(spot[0], dots[i])),
                _overlap(spot[0], lines, frame),
                _ambiguous(spot[0], dots, i, spot[2]),
            ),
        )
        texts.append(box.padded(4 * unit, 0))
        if far:  # no later label is written across it
            leaders += [Bbox([point - unit, point + unit]) for point in _leader(box, dots[i])]
        end = (np.clip(dots[i], box.min, box.max) - box.min) / box.size
        leader = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4, "relpos": tuple(end)}
        ax.annotate(
            labels[i],
            tuple(points[[x, y]].iloc[i]),
            offset,
            textcoords="offset points",
            va="bottom",
            arrowprops=leader if far else None,
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )


def _spots(size: np.ndarray) -> Iterator[tuple[np.ndarray, bool]]:
    """Offsets in points from a dot to its label's lower left corner, best first, and whether that is far."""
    width, height = size
    for gap in (8, 18, 30, 44):
        right, left, middle = gap, -gap - width, -width / 2
        above, below, level = gap, -gap - height, -height / 2
        for corner in (
            (right, level), (left, level), (middle, above), (middle, below),
            (right, above), (right, below), (left, above), (left, below),
        ):  # fmt: skip
            yield np.array(corner), gap > 8


def _overlap(box: Bbox, taken: Sequence[Bbox], frame: Bbox) -> float:
    """Area in pixels of `box` that is taken or lies outside `frame`."""
    common = [Bbox.intersection(box, other) for other in taken]
    inside = Bbox.intersection(box, frame)
    outside = box.width * box.height - (0 if inside is None else inside.width * inside.height)
    return outside + sum(c.width * c.height for c in common if c is not None)


def _ambiguous(box: Bbox, dots: np.ndarray, i: int, far: bool) -> bool:
    """True if a label lies nearer to another dot than to its own, or its leader runs through one."""
    if not far:
        return bool(np.hypot(*(dots - np.clip(dots, box.min, box.max)).T).argmin() != i)
    gaps = _leader(box, dots[i])[:, None] - np.delete(dots, i, axis=0)
    return bool((np.hypot(*gaps.T) < _CLEARANCE).any())


def _leader(box: Bbox, dot: np.ndarray) -> np.ndarray:
    """Points `(20, 2)` on the line from a dot to its label."""
    return np.linspace(dot, np.clip(dot, box.min, box.max), 20)
