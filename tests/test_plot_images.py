from __future__ import annotations

import numpy as np
import pytest

from masslib import plot

CLASSES = ["shoe", "bag", "shirt"]
X = np.linspace(0, 1, 5 * 6 * 6).reshape(5, 6, 6)
Y = np.array([0, 1, 2, 1, 0])
P = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.0, 1.0, 0.0], [0.5, 0.4, 0.1]])


def titles(figure):
    return [ax.get_title("center") for ax in figure.axes]


@pytest.mark.parametrize("x", [X, X[..., None], np.stack([X] * 3, axis=-1), (X * 255).astype("uint8")])
def test_images_shows_the_pixels_in_a_grid(x):
    figure = plot.images(x, columns=3)
    assert len(figure.axes) == 5
    assert figure.axes[0].get_gridspec().get_geometry() == (2, 3)
    shown = np.stack([ax.get_images()[0].get_array() for ax in figure.axes])
    scale = 255 if x.dtype == np.uint8 else 1
    np.testing.assert_allclose(shown, (x[..., 0] if x.shape[-1] == 1 else x) / scale)
    assert all(ax.get_images()[0].get_clim() == (0, 1) for ax in figure.axes)


def test_images_titles_are_labels():
    assert titles(plot.images(X, Y, classes=CLASSES)) == ["shoe", "bag", "shirt", "bag", "shoe"]
    assert titles(plot.images(X, Y)) == ["0", "1", "2", "1", "0"]
    assert titles(plot.images(X)) == [""] * 5


def test_images_titles_are_predictions_and_errors_name_the_truth():
    figure = plot.images(X, Y, P, CLASSES)
    assert titles(figure) == ["shoe 80 %", "bag 70 %", "shoe 60 %", "bag 100 %", "shoe 50 %"]
    assert figure.get_suptitle() == "4 of 5 right (blue); the others (orange) with the true class below"
    below = [[t.get_text() for t in ax.texts] for ax in figure.axes]
    assert below == [[], [], ["true: shirt"], [], []]


def test_images_explains_no_orange_where_all_are_right():
    assert plot.images(X[:2], Y[:2], P[:2]).get_suptitle() == "2 of 2 right"


def test_images_bars_are_as_long_as_the_probability():
    for ax, p in zip(plot.images(X, None, P).axes, P.max(axis=1), strict=True):
        ground, bar = ax.patches
        assert (ground.get_width(), bar.get_width()) == (1, pytest.approx(p))


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_images_of_a_binary_model(shape):
    p = np.array([0.1, 0.9, 0.6, 0.5, 0.0]).reshape(shape)
    expected = ["0 90 %", "1 90 %", "1 60 %", "0 50 %", "0 100 %"]
    assert titles(plot.images(X, probabilities=p)) == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x": X[0]}, r"x has shape \(6, 6\); expected \(n, height, width\).*for one image pass x\[None\]"),
        ({"x": X[:0]}, r"x has shape \(0, 6, 6\)"),
        ({"x": np.zeros((201, 2, 2))}, r"201 images; expected at most 200: pass some of them, x\[:40\]"),
        ({"x": X * 255}, "float64 values from 0.0 to 255.0; expected floats in"),
        ({"x": X * np.nan}, "values from nan"),
        ({"x": X, "y": Y[:3]}, r"y has shape \(3,\).*expected 5 class indices"),
        ({"x": X, "y": Y + 0.5}, "float64; expected 5 class indices"),
        ({"x": X, "y": Y, "classes": ["a"]}, "labels from 0 to 2, but classes has 1 names"),
        ({"x": X, "probabilities": P[:2]}, r"probabilities has shape \(2, 3\); expected \(5, classes\)"),
        ({"x": X, "probabilities": P * 9}, "from 0 to 9; expected .0, 1.: pass logits through a softmax"),
        ({"x": X, "probabilities": P * np.nan}, "probabilities has values from nan"),
        (
            {"x": X, "probabilities": P, "classes": ["a", "b"]},
            "classes has 2 names, but probabilities has shape",
        ),
        ({"x": X, "columns": 0}, "columns=0: expected a whole number of at least 1"),
    ],
)
def test_images_errors(arguments, words):
    with pytest.raises(ValueError, match=words):
        plot.images(**arguments)
