from __future__ import annotations

import numpy as np
import pytest

from masslib.data import from_arrays
from masslib.evaluation import Evaluation, evaluate


class Echo:
    """A model whose outputs are its inputs."""

    def predict(self, x):
        return x


def test_shown_short_and_readable():
    result = evaluate(Echo(), (np.eye(3)[[0, 1, 2, 0]], [0, 1, 2, 2]))
    assert repr(result) == ("Evaluation(multiclass, n=4: accuracy 0.75 [0.3006, 0.9544], macro_f1 0.7778, auc 0.8611)")
    page = result._repr_html_()
    assert "multiclass, 4 rows" in page
    assert "<th>auc</th><td>0.8611</td>" in page


def test_plot_draws_the_confusion_matrix():
    figure = evaluate(Echo(), from_arrays(np.eye(3), [0, 2, 1], classes=["shoe", "bag", "shirt"])).plot()
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["shoe", "bag", "shirt"]


def test_a_regression_has_nothing_to_plot():
    with pytest.raises(ValueError, match="A regression evaluation has no confusion matrix to plot; read .metrics"):
        evaluate(Echo(), (np.array([0.1, 0.2]), np.array([0.5, 1.5]))).plot()


def test_evaluation_is_frozen():
    with pytest.raises(AttributeError):
        Evaluation("binary", 3).n = 4
