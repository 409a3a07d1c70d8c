"""`agreement` tells how far files are from their model."""

import keras
import numpy as np
import pytest

import masslib
from masslib import Quantize, compress, evaluate, export, models


@pytest.fixture(scope="module")
def model():
    return models.mlp((16,), 3)


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).random((96, 16), "float32"), np.arange(96) % 3


@pytest.mark.slow
def test_each_figure_is_what_numpy_says(model, data, tmp_path):
    path = export.tflite(compress(model, Quantize("int8"), data), tmp_path / "int8.tflite")
    table = masslib.agreement(model, {"int8": path, "same": model}, data, batch_size=32)
    x, y = data
    expected, found = np.asarray(model(x)), export.load(path).predict(x)
    assert table.index.tolist() == ["model", "int8", "same"]
    assert table.loc["int8"].to_list() == pytest.approx(
        [
            np.abs(found - expected).max(),
            np.abs(found - expected).mean(),
            (found.argmax(axis=1) == expected.argmax(axis=1)).mean(),
            (found.argmax(axis=1) == y).mean(),
        ],
        abs=1e-6,
    )
    accuracy = (expected.argmax(axis=1) == y).mean()
    for name in ("model", "same"):
        assert table.loc[name].to_list() == [0, 0, 1, accuracy]


def test_quantities_have_no_classes(model, data):
    x, _ = data
    table = masslib.agreement(model, {"same": model}, (x, x[:, :3]))
    assert table[["top1_agreement", "accuracy"]].isna().all(axis=None)
    assert table.loc["same", "largest"] == 0


def test_what_cannot_be_compared_is_refused(model, data, tmp_path):
    with pytest.raises(ValueError, match=r"files=\[\]: expected at least one, none of them named 'model'"):
        masslib.agreement(model, {}, data)
    with pytest.raises(ValueError, match=r"files=\['model'\]: expected at least one"):
        masslib.agreement(model, {"model": model}, data)
    with pytest.raises(ValueError, match=r"'other' answers with shape \(4,\), the model with \(3,\)"):
        masslib.agreement(model, {"other": models.mlp((16,), 4)}, data)
    with pytest.raises(ValueError, match="y has labels from 0 to 9, but the model tells 3 classes apart"):
        masslib.agreement(model, {"same": model}, (data[0], np.arange(96) % 10))


def test_a_single_logit_is_cut_at_zero_as_evaluate_does(data):
    x, _ = data
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(1)])
    logits = np.asarray(model(x))[:, 0]
    y = (logits > np.median(logits)).astype(int)
    table = masslib.agreement(model, {"same": model}, (x, y))
    assert table.loc["same", "accuracy"] == pytest.approx(evaluate(model, (x, y), task="binary").accuracy)


def test_rows_of_the_ignored_class_are_neither_right_nor_wrong(tmp_path):
    model = models.mlp((4,), 3)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(ignore_class=-1))
    x, y = np.random.default_rng(0).random((60, 4), "float32"), np.arange(60) % 4 - 1
    file = export.tflite(model, tmp_path / "it.tflite")
    table = masslib.agreement(model, {"file": file}, (x, y))
    assert table.loc["file", "accuracy"] == pytest.approx(evaluate(model, (x, y)).accuracy)
