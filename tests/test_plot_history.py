from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from masslib import plot

CURVES = {
    "loss": [0.9, 0.5, 0.4],
    "accuracy": [0.7, 0.8, 0.85],
    "val_loss": [0.8, 0.6, 0.5],
    "val_accuracy": [0.72, 0.78, 0.8],
    "learning_rate": [0.1, 0.1, 0.01],
}


def titles(figure):
    return [ax.get_title("left") for ax in figure.axes]


def test_history_draws_training_and_validation_from_epoch_1():
    figure = plot.history(CURVES)
    assert titles(figure) == ["Loss", "Accuracy"]
    for ax, metric in zip(figure.axes, ("loss", "accuracy"), strict=True):
        training, validation = ax.get_lines()
        np.testing.assert_array_equal(training.get_xydata(), np.stack([[1, 2, 3], CURVES[metric]], axis=1))
        np.testing.assert_array_equal(validation.get_ydata(), CURVES[f"val_{metric}"])
        assert (training.get_label(), validation.get_label()) == ("training", "validation")
        assert training.get_linestyle() != validation.get_linestyle()
        assert ax.get_xlabel() == "Epoch"
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["training", "validation"]


@pytest.mark.parametrize("epochs", [1, 2, 7, 100])
def test_history_ticks_are_whole_epochs(epochs):
    ax = plot.history({"loss": np.ones(epochs)}).axes[0]
    low, high = ax.get_xlim()
    ticks = [t for t in ax.get_xticks() if low <= t <= high]
    assert ticks
    assert all(t == int(t) and 1 <= t <= epochs for t in ticks)


def test_history_takes_what_fit_returns_and_other_metrics():
    assert titles(plot.history(SimpleNamespace(history=CURVES))) == ["Loss", "Accuracy"]
    assert titles(plot.history({"loss": [1], "auc": [1], "sparse_categorical_accuracy": [1]})) == [
        "Loss",
        "Accuracy",
    ]
    assert titles(plot.history({"loss": [1], "mae": [1]})) == ["Loss", "MAE"]
    assert titles(plot.history({"loss": [1], "learning_rate": [1]})) == ["Loss"]


@pytest.mark.parametrize(
    ("history", "error", "words"),
    [
        ([1, 2], TypeError, r"history is a list; expected what fit\(\) returned, or a dict"),
        ({"loss": []}, ValueError, "expected a 'loss' of at least one epoch"),
        ({"accuracy": [1]}, ValueError, r"history has \['accuracy'\]; expected a 'loss'"),
        ({"loss": [1, 2], "val_loss": [1]}, ValueError, r"'val_loss': \(1,\).*one number per epoch"),
    ],
)
def test_history_errors(history, error, words):
    with pytest.raises(error, match=words):
        plot.history(history)
