from __future__ import annotations

import numpy as np
import pytest

from masslib.data import from_arrays
from masslib.evaluation import evaluate

RNG = np.random.default_rng(0)
Y3 = RNG.integers(0, 3, 600)
P3 = RNG.dirichlet((1, 1, 1), 600) * 0.6 + 0.4 * np.eye(3)[Y3]
Y2 = RNG.integers(0, 2, 500)
P2 = np.clip(0.35 * Y2 + RNG.uniform(0, 0.65, 500), 0.01, 0.99)


class Echo:
    """A model whose outputs are its inputs."""

    def predict(self, x):
        return x


def run(outputs, y, **options):
    return evaluate(Echo(), (np.asarray(outputs), np.asarray(y)), **options)


def test_softmax_of_two_is_multiclass_unless_binary_is_asked_for():
    two = np.stack([1 - P2, P2], axis=1)
    assert run(two, Y2).task == "multiclass"
    assert run(two, Y2, task="binary").metrics == pytest.approx(run(P2, Y2).metrics)


@pytest.mark.parametrize(
    ("outputs", "y", "options", "error", "words"),
    [
        (P3, Y3, {"task": "ranking"}, ValueError, r"task is 'ranking'; expected one of 'auto', 'multiclass'"),
        (P3, Y3, {"batch_size": 0}, ValueError, "batch_size is 0; expected a whole number"),
        (P3, Y3 + 1, {}, ValueError, "labels from 1 to 3, but the model tells 3 classes apart"),
        (P3, Y3 - 1, {}, ValueError, "labels from -1 to 1"),
        (P3, np.eye(3)[Y3], {}, ValueError, r"one-hot; pass the class indices, y.argmax\(axis=1\)"),
        (P3, Y3.astype(float), {}, ValueError, r"integer labels, y.astype\(int\)"),
        (P3, Y3 + 0.5, {"task": "multiclass"}, ValueError, "fractional labels"),
        (P3, np.stack([Y3, Y3], 1), {}, ValueError, "one class index per row"),
        (P3, Y3.astype(str), {}, TypeError, "y has dtype <U.*expected class indices"),
        (P3, np.where(Y3 == 1, np.nan, 0.0), {}, ValueError, "y contains NaN"),
        (P3, Y3, {"task": "binary"}, ValueError, "task is 'binary', but the model has 3 outputs"),
        (P2, Y2, {"task": "multiclass"}, ValueError, "'multiclass', but the model has one output"),
        (P2, Y2 + 3, {}, ValueError, "whole numbers from 3 to 4: pass task='regression'"),
        (P3, Y3 / 2, {"task": "regression"}, ValueError, r"outputs of shape \(600, 3\), but y has shape"),
    ],
)
def test_errors_say_what_is_wrong(outputs, y, options, error, words):
    with pytest.raises(error, match=words):
        run(outputs, y, **options)


def test_names_must_be_as_many_as_outputs():
    with pytest.raises(ValueError, match="name 4 classes, but the model tells 3 apart"):
        evaluate(Echo(), from_arrays(P3, Y3, classes=["a", "b", "c", "d"]))
