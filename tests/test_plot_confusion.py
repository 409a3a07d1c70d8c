from __future__ import annotations

import numpy as np
import pytest

from masslib import plot

CLASSES = ["shoe", "bag", "shirt"]


def tick_labels(axis):
    axis.axes.figure.draw_without_rendering()
    return [t.get_text() for t in axis.get_ticklabels()]


def test_confusion_writes_counts_and_colours_shares():
    matrix = np.array([[90, 10, 0], [1, 1, 2], [0, 0, 0]])
    ax = plot.confusion(matrix, CLASSES).axes[0]
    shares = [[0.9, 0.1, 0], [0.25, 0.25, 0.5], [0, 0, 0]]
    np.testing.assert_allclose(ax.get_images()[0].get_array(), shares)
    written = {t.get_position(): t.get_text() for t in ax.texts}
    assert written == {(c, r): str(matrix[r, c]) for r in range(3) for c in range(3)}
    assert tick_labels(ax.xaxis) == tick_labels(ax.yaxis) == CLASSES
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Predicted class", "True class")
    assert ax.get_title("left") == "Confusion matrix: 87.5 % of 104 right"


def test_confusion_of_many_classes_has_no_numbers():
    assert len(plot.confusion(np.eye(25, dtype=int)).axes[0].texts) == 625
    assert len(plot.confusion(np.eye(26, dtype=int)).axes[0].texts) == 0


@pytest.mark.parametrize(
    ("matrix", "classes", "words"),
    [
        ([[1, 2]], None, r"shape \(1, 2\); expected \(k, k\)"),
        ([[0.5, 0.5], [0, 1]], None, "float64 values from 0.0 to 1.0; expected counts"),
        ([[0, 0], [0, 0]], None, "not all 0"),
        ([[1, -1], [0, 1]], None, "from -1 to 1; expected counts"),
        ([[1, 0], [0, 1]], ["a"], r"classes has 1 names, but the matrix has shape \(2, 2\)"),
    ],
)
def test_confusion_errors(matrix, classes, words):
    with pytest.raises(ValueError, match=words):
        plot.confusion(matrix, classes)
