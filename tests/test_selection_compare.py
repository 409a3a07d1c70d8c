import keras
import numpy as np
import pandas as pd
import pytest

import masslib
from masslib import Cluster, Distill, LowRank, Prune, PruneChannels, Quantize, QuantizeAware, compare, models
from masslib.selection import Comparison


@pytest.fixture(scope="module")
def model(digits):
    model = models.mlp(digits.input_shape, digits.num_classes)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    masslib.fit(model, digits.train, epochs=4, verbose=0)
    return model


@pytest.mark.slow
def test_every_figure_is_that_of_the_file(model, digits, tmp_path):
    recipes = {"int8": Quantize("int8"), "pruned 80%": [Prune(0.8, epochs=2), Quantize("dynamic")]}
    report = compare(model, recipes, digits, folder=tmp_path, verbose=False)
    table = report.table
    assert list(table.index) == ["float", "int8", "pruned 80%"] == list(report.files)
    for name, path in report.files.items():
        predictor = masslib.runtime.load(path)
        x, y = digits.test[:]
        accuracy = np.mean(predictor.predict(x).argmax(1) == y)
        assert table.loc[name, "accuracy"] == pytest.approx(accuracy)
        assert table.loc[name, "drop_points"] == pytest.approx(100 * (table.loc["float", "accuracy"] - accuracy))
        size = masslib.measure.file_size(path)
        assert table.loc[name, "size_kb"] == size.raw / 1000
        assert table.loc[name, "gzipped_kb"] == size.gzipped / 1000
        smaller = table.loc["float", "gzipped_kb"] / table.loc[name, "gzipped_kb"]
        assert table.loc[name, "times_smaller"] == pytest.approx(smaller)
        assert table.loc[name, "low"] < accuracy < table.loc[name, "high"]
        assert 0 < table.loc[name, "median_ms"] <= table.loc[name, "p95_ms"]
    assert table["mflops"].nunique() == 1  # zeros are not skipped
    assert table.loc["float", "mflops"] == pytest.approx(2e-6 * (64 * 300 + 300 * 100 + 100 * 10))
    assert table.loc["pruned 80%", "nonzero"] < 0.25 * table.loc["float", "nonzero"]
    assert table.loc["float", "accuracy"] == pytest.approx(masslib.evaluate(model, digits.test).accuracy)
    assert table.loc["pruned 80%", "times_smaller"] > 8 > table.loc["int8", "times_smaller"] > 3


@pytest.mark.slow
def test_recipes_share_what_they_begin_with_and_end_as_alone(model, digits, tmp_path, monkeypatch):
    prune, cluster = Prune(0.8, max_steps=8), Cluster(8, max_steps=4)
    recipes = {
        "pruned": prune,
        "clustered": [prune, cluster],
        "in int8": [prune, cluster, QuantizeAware(max_steps=4)],
        "otherwise": [Prune(0.7, max_steps=8), cluster],
    }
    trained, apply = [], {kind: kind.apply for kind in (Prune, Cluster)}
    for kind in apply:
        monkeypatch.setattr(kind, "apply", lambda self, *a: trained.append(self) or apply[type(self)](self, *a))
    report = compare(model, recipes, digits, folder=tmp_path, verbose=False)
    assert trained == [prune, cluster, Prune(0.7, max_steps=8), cluster]
    x, _ = digits.test[:]
    small = masslib.compress(model, recipes["in int8"], digits.train, verbose=False)
    alone = masslib.export.tflite(small, tmp_path / "alone.tflite")
    answers = [masslib.runtime.load(path).predict(x) for path in (report.files["in int8"], alone)]
    np.testing.assert_array_equal(*answers)


@pytest.mark.exhaustive
def test_recipes_that_rebuild_the_model_stand_beside_the_others(model, digits):
    student = models.mlp(digits.input_shape, digits.num_classes, hidden=(24,))
    distill = Distill(student, epochs=10, learning_rate=0.01)
    recipes = {
        "channels": [PruneChannels(0.5, epochs=2), Quantize("dynamic")],
        "low rank": [LowRank(rank=12, epochs=2)],
        "student": [distill, Prune(0.5, epochs=2), Quantize("int8")],
        "student of a student": [distill, Distill(student, epochs=10, learning_rate=0.01)],
        "student after all": distill,
    }
    table = compare(model, recipes, digits, verbose=False).table
    assert (table["mflops"][1:] < 0.8 * table["mflops"]["float"]).all()
    assert (table["times_smaller"][1:] > 1.2).all()
    assert (table["accuracy"] > 0.8).all()


def test_a_senseless_recipe_is_refused_before_anything_is_begun(model, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(Prune, "apply", lambda *_: pytest.fail("began to train"))
    recipes = {"good": Prune(0.5), "bad": [Cluster(8), Prune(0.5)]}
    with pytest.raises(ValueError, match="the order is Distill, PruneChannels, LowRank, Prune, Cluster"):
        compare(model, recipes, digits, folder=tmp_path, verbose=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_report_is_shown_drawn_and_saved(model, digits, tmp_path):
    report = compare(model, {"float16": Quantize("float16")}, digits, verbose=False)
    assert report.files == {}
    assert "float16" in str(report)
    assert "<table" in report._repr_html_()
    report.save(tmp_path)
    saved = pd.read_csv(tmp_path / "comparison.csv", index_col=0)
    pd.testing.assert_frame_equal(saved, report.table, check_exact=False)
    assert (tmp_path / "comparison.txt").read_text() == f"{report}\n"
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_a_report_shows_what_to_decide_by_with_intervals_in_brackets():
    columns = {"accuracy": [0.9, 0.89], "low": [0.8, 0.8], "high": [0.95, 0.95], "drop_points": [0.0, 1.0]}
    columns |= {
        "drop_low": [0.0, 0.25],
        "drop_high": [0.0, 1.75],
        "valid_drop_points": [0.0, 0.5],
        "p95_ms": [2.0, 1.0],
    }
    columns |= {"times_faster": [1.0, 2.0], "faster_low": [1.0, 1.9], "faster_high": [1.0, 2.25]}
    report = Comparison(pd.DataFrame(columns, ["float", "int8"]), {}, {})
    head, plain, int8 = str(report).splitlines()
    assert head.split() == ["accuracy", "drop_points", "valid_drop_points", "times_faster"]
    assert plain.split() == ["float", "0.9000", "+0.00", "+0.00", "1.00"]
    assert int8.split() == ["int8", "0.8900", "+1.00", "[+0.25,", "+1.75]", "+0.50", "2.00", "[1.90,", "2.25]"]
    # Not broken into several lines to save width
    assert '<td style="white-space: nowrap">+1.00 [+0.25, +1.75]</td>' in report._repr_html_()


@pytest.mark.parametrize("recipes", [{}, {"float": Quantize("int8")}])
def test_recipes_need_names_of_their_own(model, digits, recipes):
    with pytest.raises(ValueError, match="expected at least one, none of them named 'float'"):
        compare(model, recipes, digits)


def test_names_that_would_share_a_file_are_refused(model, digits):
    recipes = {name: masslib.Quantize("int8") for name in ("int8", "prune 0.5", "prune, 0.5", "+", "float!")}
    expected = r"recipes=\['prune 0.5', 'prune, 0.5', '\+', 'float!'\]: their files would have the same name or none"
    with pytest.raises(ValueError, match=expected):
        masslib.compare(model, recipes, digits)


def test_what_fails_is_named_and_quantities_are_refused_at_once(model, digits):
    with pytest.raises(ValueError, match="names nope") as caught:
        masslib.compare(model, {"odd": masslib.Prune({"nope": 0.5}, max_steps=1)}, digits, verbose=False)
    assert caught.value.__notes__ == ["This was the recipe 'odd': Prune({'nope': 0.5}, max_steps=1)."]
    part = masslib.data.from_arrays(np.zeros((4, 3)), np.zeros((4, 2)))
    prices = models.mlp((3,), 2)
    prices.compile(loss="mse")
    with pytest.raises(ValueError, match="metric='accuracy': the model is judged by mae, rmse, r2; pass one of these"):
        masslib.compare(prices, {"int8": masslib.Quantize("int8")}, masslib.data.Splits(part, part, part, None))


@pytest.mark.parametrize(
    ("outputs", "loss", "labels"),
    [
        (1, "binary_crossentropy", np.arange(32) % 2),
        (3, "binary_crossentropy", np.stack([np.arange(32) % k == 0 for k in (2, 3, 5)], 1).astype("float32")),
        (3, "categorical_crossentropy", np.eye(3)[np.arange(32) % 3]),
    ],
)
def test_the_compiled_loss_tells_what_is_judged(outputs, loss, labels):
    """Files know no loss, and labels of 0 and 1 fit several tasks."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(outputs, activation="sigmoid")])
    model.compile("sgd", loss)
    splits = masslib.data.Splits.from_arrays((np.random.default_rng(0).normal(size=(32, 4)), labels), valid=4, test=12)
    table = masslib.compare(model, {"float16": masslib.Quantize("float16")}, splits, verbose=False).table
    assert table["accuracy"].between(0, 1).all()


@keras.saving.register_keras_serializable("tests_of_compare")
class _Scale(keras.layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], initializer="ones")

    def call(self, x):
        return x * self.scale


@pytest.mark.slow
def test_layers_of_ones_own_cross_as_in_compress(digits):
    entry = keras.Input(digits.input_shape)
    x = _Scale(name="scale")(keras.layers.Dense(16, activation="relu", name="hidden")(keras.layers.Flatten()(entry)))
    model = keras.Model(entry, keras.layers.Dense(10, activation="softmax", name="top")(x))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    carried = {_Scale: masslib.bridge.carry}
    recipes = {"pruned": Prune(0.5, max_steps=2)}
    table = compare(model, recipes, digits, verbose=False, custom_layers=carried).table
    assert table.loc["pruned", "nonzero"] < table.loc["float", "nonzero"]
    found = masslib.search(model, digits, 1 - 1e-9, budget=3, max_steps=2, verbose=False, custom_layers=carried)
    assert found.table["note"].tolist() == [""] * 4
