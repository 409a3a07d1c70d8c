from __future__ import annotations

import os

import numpy as np
import pytest
from sklearn import metrics

from masslib import runtime
from masslib.data import from_arrays
from masslib.evaluation import evaluate

RNG = np.random.default_rng(0)
Y3 = RNG.integers(0, 3, 600)
P3 = RNG.dirichlet((1, 1, 1), 600) * 0.6 + 0.4 * np.eye(3)[Y3]
Y2 = RNG.integers(0, 2, 500)
P2 = np.clip(0.35 * Y2 + RNG.uniform(0, 0.65, 500), 0.01, 0.99)


class Echo:
    """A model whose outputs are its inputs; it records the batches it was asked for."""

    def __init__(self):
        self.calls = []

    def predict(self, x, batch_size=None, verbose=1):
        self.calls.append((len(x), batch_size, verbose))
        return x


def test_subset_and_pair_agree_and_names_are_kept():
    result = evaluate(Echo(), from_arrays(P3, Y3, classes=["shoe", "bag", "shirt"]))
    assert result.classes == ("shoe", "bag", "shirt")
    assert result.metrics == evaluate(Echo(), (P3.astype("float32"), Y3)).metrics


def test_data_is_read_in_pieces_of_whole_batches(monkeypatch):
    monkeypatch.setattr("masslib.evaluation.outputs._CHUNK_BYTES", 200 * P3[0].nbytes)
    model = Echo()
    result = evaluate(model, (P3, Y3), batch_size=32)
    assert [rows for rows, _, _ in model.calls] == [32] + [96] * 5 + [88]
    assert {(size, verbose) for _, size, verbose in model.calls} == {(32, 0)}
    monkeypatch.undo()
    assert result == evaluate(Echo(), (P3, Y3))


def test_model_that_takes_only_x():
    class Bare:
        def predict(self, x):
            return x

    assert evaluate(Bare(), (P2, Y2), task="binary") == evaluate(Echo(), (P2, Y2), task="binary")


def test_path_is_loaded_and_closed(monkeypatch, tmp_path):
    closed, asked = [], []
    model = Echo()
    model.close = lambda: closed.append(True)
    monkeypatch.setattr(runtime, "load", lambda path, threads: asked.append(threads) or model)
    assert evaluate(tmp_path / "model.tflite", (P2, Y2), task="binary") == evaluate(Echo(), (P2, Y2), task="binary")
    assert closed == [True]
    with pytest.raises(ValueError, match="NaN"):
        evaluate("model.tflite", (P2 * np.nan, Y2), task="binary")
    assert closed == [True, True]
    assert set(asked) == {len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()}


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_keras_models(library):
    keras = pytest.importorskip(library)
    layers = [keras.layers.Input((3,)), keras.layers.Dense(4, activation="softmax")]
    model = keras.Sequential(layers)
    x, y = RNG.normal(size=(40, 3)).astype("float32"), np.arange(40) % 4
    expected = metrics.roc_auc_score(y, model.predict(x, verbose=0), multi_class="ovr")
    assert evaluate(model, (x, y), batch_size=16).auc == pytest.approx(expected)


@pytest.mark.parametrize(
    ("outputs", "y", "words"),
    [
        (P3, Y3[:-1], r"x has shape \(600, 3\) and y \(599,\)"),
        (P3[:0], Y3[:0], "no rows"),
        (P3[:, :, None], Y3, r"y has int64 labels of shape \(600,\) .* the model outputs \(3, 1\) per row; no task"),
        (np.where(P3 > 0.9, np.nan, P3), Y3, r"NaN or infinite outputs in \d+ of rows 0 to 255, of 600 rows"),
    ],
)
def test_errors_of_arrays(outputs, y, words):
    with pytest.raises(ValueError, match=words):
        evaluate(Echo(), (outputs, y))


def test_errors_of_models_and_data():
    with pytest.raises(TypeError, match=r"model is a dict without predict\(\)"):
        evaluate({}, (P3, Y3))
    with pytest.raises(TypeError, match=r"data is a ndarray; expected a Subset"):
        evaluate(Echo(), P3)
    with pytest.raises(TypeError, match=r"tuple of 4 items; expected \(x, y\)"):
        evaluate(Echo(), (P3, Y3, None, None))
    several = Echo()
    several.predict = lambda x: [x, x]
    with pytest.raises(ValueError, match="y is one array, but the model has the outputs 0, 1; name them in a dict"):
        evaluate(several, (P3, Y3))
    with pytest.raises(ValueError, match="y has the names price, the model the outputs 0, 1"):
        evaluate(several, (P3, {"price": Y3}))
    with pytest.raises(ValueError, match="y has 3 parts, but the model the outputs 0, 1"):
        evaluate(several, (P3, (Y3, Y3, Y3)))
    with pytest.raises(ValueError, match="data has no labels"):
        evaluate(several, from_arrays(P3))
