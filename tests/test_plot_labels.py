from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from masslib import plot


@pytest.mark.parametrize("seed", range(4))
def test_tradeoff_labels_hit_neither_each_other_nor_points(seed):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {"gzipped_kb": rng.lognormal(5, 1, 14), "accuracy": 0.92 - rng.exponential(0.01, 14)},
        index=[f"technique {i}" for i in range(14)],
    )
    figure = plot.tradeoff(table)
    ax = figure.axes[0]
    figure.draw_without_rendering()
    # Text alone: the extent of an annotation includes its leader line.
    boxes = [Text.get_window_extent(t) for t in ax.texts if t.xycoords == "data"]
    assert len(boxes) == 14
    assert not [1 for a, b in combinations(boxes, 2) if a.overlaps(b)]
    dots = ax.transData.transform(table.to_numpy())
    assert not [1 for box in boxes for dot in dots if box.contains(*dot)]
    frame = ax.get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)


def test_tradeoff_leaders_run_through_no_label():
    # Two points in one place below a line, so that one of their labels has to go far.
    points = {"float": (987, 0.8778), "dynamic": (256, 0.8786), "int8": (255, 0.8772), "refused": (40, 0.8646)}
    points |= {"prune by layer + cluster + QAT @ 50 %": (64, 0.8812), "prune + int8 @ 50 %": (33, 0.7540)}
    table = pd.DataFrame(points, ["gzipped_kb", "accuracy"]).T
    figure = plot.tradeoff(table, limit=0.8678)
    ax = figure.axes[0]
    figure.draw_without_rendering()
    names = [t for t in ax.texts if t.xycoords == "data"]
    for text in names:
        path = text.arrow_patch.get_path().interpolated(20).vertices if text.arrow_patch else []
        boxes = [Text.get_window_extent(other) for other in names if other is not text]
        assert not [1 for box in boxes for point in path if box.contains(*point)]
