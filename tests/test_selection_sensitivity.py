"""The numbers are those of the treated model, and the model itself is never touched."""

import keras
import numpy as np
import pandas as pd
import pytest

import masslib
from masslib import Prune, sensitivity


def _by_hand(model, data, name, change):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    kernel, *rest = copy.get_layer(name).get_weights()
    copy.get_layer(name).set_weights([change(kernel), *rest])
    x, y = data[:]
    return np.mean(np.argmax(copy(x, training=False), 1) == y)


def _zeroed(kernel):
    return np.where(np.abs(kernel) <= np.quantile(np.abs(kernel), 0.9), 0, kernel)


def _rank_one(kernel):
    u, s, v = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), full_matrices=False)
    return (s[0] * np.outer(u[:, 0], v[0])).reshape(kernel.shape)


def _signs(kernel):
    """Two bits, symmetric: -1, 0 or 1 times the largest of the channel."""
    largest = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)))
    return np.round(kernel / largest) * largest


@pytest.mark.parametrize(
    "technique, level, change", [("sparsity", 0.9, _zeroed), ("rank", 1e-6, _rank_one), ("bits", 2, _signs)]
)
def test_each_figure_is_that_of_the_model_with_one_layer_changed(trained, digits, technique, level, change):
    before = trained.get_weights()
    found = sensitivity(trained, digits.train, technique, levels=[level], verbose=False)
    assert list(found.table.index) == ["conv1", "conv2", "dense1", "dense2"]
    x, y = digits.train[:]
    assert found.baseline == pytest.approx(np.mean(np.argmax(trained(x, training=False), 1) == y))
    for name in found.table.index:
        # Some rows of 1257 may tip with the rounding of another batch.
        assert found.table.loc[name, level] == pytest.approx(_by_hand(trained, digits.train, name, change), abs=0.012)
    assert found.table[level].min() < found.baseline
    assert all((a == b).all() for a, b in zip(before, trained.get_weights(), strict=True))
    assert found.weights["dense1"] == trained.get_layer("dense1").kernel.shape[0] * 512


def test_levels_run_from_gentle_to_strong_and_layers_can_be_chosen(trained, digits):
    found = sensitivity(trained, digits.valid.sample(50), "bits", levels=[2, 8], layers=["dense2"], verbose=False)
    assert list(found.table.columns) == [8, 2]
    assert list(found.table.index) == ["dense2"]
    assert found.table.loc["dense2", 8] >= found.baseline - 0.05


def test_within_interpolates_and_is_what_prune_takes():
    table = pd.DataFrame({0.5: [0.9, 0.9, 0.2], 0.9: [0.9, 0.5, 0.3]}, index=["safe", "half", "frail"])
    found = masslib.selection.Sensitivity("sparsity", 0.9, table, {})
    assert found.within(0.1) == {"safe": 0.9, "half": 0.6, "frail": pytest.approx(0.5 / 7, abs=1e-3)}
    assert found.within(0.0) == {"safe": 0.9, "half": 0.5}
    assert Prune(found.within(0.1)).sparsity["half"] == 0.6
    bits = pd.DataFrame({8: [0.9, 0.7], 4: [0.9, 0.5]}, index=["safe", "half"])
    assert masslib.selection.Sensitivity("bits", 0.9, bits, {}).within(0.3) == {"safe": 4, "half": 6}


def test_it_is_shown_and_drawn(trained, digits):
    found = sensitivity(trained, digits.valid, levels=[0.5, 0.9], verbose=False)
    assert "untouched: 0." in str(found) and "conv1" in str(found)
    assert "<table" in found._repr_html_()
    (axes,) = found.plot().axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(found.table.index)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["50 %", "90 %"]
    drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
    np.testing.assert_array_equal(drawn["conv2"], found.table.loc["conv2"])


def test_nested_models_are_looked_into(digits):
    inner = keras.Sequential(
        [keras.Input(digits.input_shape), keras.layers.Flatten(), keras.layers.Dense(8)], name="in"
    )
    model = keras.Sequential([keras.Input(digits.input_shape), inner, keras.layers.Dense(10, name="top")])
    found = sensitivity(model, digits.valid, levels=[0.5], verbose=False)
    assert list(found.table.index) == [f"in/{inner.layers[-1].name}", "top"]


def test_bad_input_is_refused(trained, digits):
    for arguments, words in {
        ("colour",): "technique='colour': expected one of 'sparsity', 'rank', 'bits'",
        ("sparsity", (0.5, 1.0)): r"levels=\[0.5, 1.0\]: expected fractions above 0 and below 1",
        ("bits", (1,)): r"levels=\[1\]: expected whole numbers of bits from 2 to 16",
        ("rank", ()): r"levels=\[\]: expected fractions",
        (
            "rank",
            None,
            ("fc",),
        ): r"layers=\['fc'\]: the layers whose rank can be changed are conv1, conv2, dense1, dense2",
    }.items():
        technique, levels, layers = (*arguments, None, None)[:3]
        with pytest.raises(ValueError, match=words):
            sensitivity(trained, digits.valid, technique, levels=levels, layers=layers, verbose=False)
    with pytest.raises(TypeError, match="expected a Keras 3 model, got str"):
        sensitivity("model", digits.valid)
    model = keras.Sequential([keras.Input(digits.input_shape), keras.layers.Flatten(), keras.layers.Dense(1)])
    x, y = digits.valid[:]
    with pytest.raises(ValueError, match="metric='accuracy': the model is judged by mae, rmse, r2; pass one of these"):
        sensitivity(model, (x, y / 3), verbose=False)
    with pytest.raises(TypeError, match="table is a dict; expected the .table"):
        masslib.plot.sensitivity({}, 0.9)
    with pytest.raises(ValueError, match="got 0 rows and 'bits'"):
        masslib.plot.sensitivity(pd.DataFrame(), 0.9, "bits")
