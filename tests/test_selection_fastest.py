"""`fastest` picks by what it measures, and never what is slower or worse."""

import gc
import importlib.util

import numpy as np
import pandas as pd
import pytest

import masslib
from masslib import export, models
from masslib.selection import Metric
from masslib.selection import _fastest as selection


@pytest.fixture(scope="module")
def splits():
    return masslib.data.load("digits")


@pytest.fixture(scope="module")
def model(splits):
    model = models.mlp(splits.input_shape, splits.num_classes)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    masslib.fit(model, splits.train, batch_size=64, epochs=5, verbose=0)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "column"), [("latency", "median_ms"), pytest.param("size", "size_kb", marks=pytest.mark.exhaustive)]
)
def test_the_winner_is_the_best_of_what_is_allowed(model, splits, tmp_path, objective, column):
    result = masslib.fastest(model, splits, tmp_path, objective=objective, max_drop=0.02, verbose=False)
    table = result.table
    fast = table[table["median_ms"] <= table.loc["LiteRT float32", "median_ms"]]
    allowed = fast[fast["accuracy"] >= table.loc["LiteRT float32", "accuracy"] - 0.02 - 1e-9]
    assert allowed[column].idxmin() == result.name
    assert table.loc[result.name, "verdict"] == "chosen"
    assert result.path == result.files[result.name]
    assert {"LiteRT float32", "LiteRT dynamic", "LiteRT int8"} <= set(table.index)
    found = masslib.evaluate(result.path, splits.valid).accuracy
    assert found == table.loc[result.name, "accuracy"] > 0.8
    installed = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "tf2onnx", "openvino"))
    assert len(table) + len(result.skipped) == 8
    assert ("chosen" in repr(result)) and (installed or "not made: O" in result._repr_html_())


@pytest.mark.slow
def test_without_a_folder_the_files_outlive_the_result(model, splits, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = masslib.fastest(model, splits, max_drop=1, verbose=False)
    assert list(result.table.index) == ["LiteRT float32", "LiteRT dynamic", "LiteRT int8"]
    assert result.skipped["OpenVINO int8"] == "openvino is not installed: pip install 'masslib[openvino,onnx]'"
    path = result.path
    assert export.load(path).predict(np.zeros((1, *splits.input_shape))).shape == (1, 10)
    del result
    gc.collect()
    assert path.exists()


@pytest.mark.parametrize(
    ("median", "drops", "max_drop", "winner", "verdicts"),
    [
        ([3, 2, 1], [0, 0.1, 0.2], 0.001, "a", ["allowed", "chosen", "less accurate"]),
        ([3, 2, 1], [0, 0.1, 0.2], 0.002, "b", ["allowed", "allowed", "chosen"]),
        ([1, 2, 3], [0, 0, -1], 1, "LiteRT float32", ["chosen", "slower than float", "slower than float"]),
    ],
)
def test_what_is_slower_or_worse_is_never_picked(median, drops, max_drop, winner, verdicts):
    table = pd.DataFrame({"median_ms": median, "drop_points": drops}, ["LiteRT float32", "a", "b"])
    assert selection.judge(table, "median_ms", max_drop, Metric()) == winner
    assert table["verdict"].tolist() == verdicts


def test_impossible_wishes_are_refused(model, splits):
    with pytest.raises(ValueError, match="objective='speed': expected 'latency' or 'size'"):
        masslib.fastest(model, splits, objective="speed")
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=f"max_drop={wrong}: expected a fraction from 0 to 1"):
            masslib.fastest(model, splits, max_drop=wrong)
