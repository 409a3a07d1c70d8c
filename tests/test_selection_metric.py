"""Judges take any figure, of one output or a weighted sum, larger or smaller being better."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from sklearn import metrics

import masslib
from masslib import Quantize, models
from masslib.evaluation import evaluate
from masslib.selection import Metric
from masslib.selection.metric import mean_score

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 900)
ONE = np.eye(3)[Y] + RNG.normal(size=(900, 3))
OTHER = ONE + 0.7 * RNG.normal(size=(900, 3))


class Echo:
    """A model whose outputs are its inputs."""

    def predict(self, x):
        return x


def score(metric, outputs=ONE, y=Y, **told):
    return Metric.of(metric).score(Echo(), (outputs, y), told)


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "auc", "ece"])
def test_a_name_is_a_figure_of_evaluate(name):
    found, expected = score(name), evaluate(Echo(), (ONE, Y))
    assert found.value == getattr(expected, name) and found.evaluation == expected
    assert Metric(name).larger_is_better == (name != "ece")
    if name != "ece":
        assert (found.low, found.high) == expected.intervals[name]


def test_losses_are_positive_for_what_is_worse_and_their_intervals_are_paired():
    for metric, sign in ((Metric("accuracy"), 1), (Metric("mae", task="regression"), -1)):
        y = Y if sign > 0 else np.eye(3)[Y]
        one, other = (metric.score(Echo(), (it, y), {}) for it in (ONE, OTHER))
        assert (
            metric.loss(other, one) == pytest.approx(sign * (one.value - other.value)) and metric.loss(other, one) > 0
        )
        low, high = metric.loss_interval(other, one)
        assert 0 < low < metric.loss(other, one) < high < low + (one.high - one.low)
        assert metric.loss_interval(one, other) == pytest.approx((-high, -low))


def test_a_function_is_called_with_labels_and_outputs():
    def balanced(y, outputs):
        return metrics.balanced_accuracy_score(y, outputs.argmax(1))

    one, other = score(balanced), score(balanced, OTHER)
    assert one.value == balanced(Y, ONE) and one.low < one.value < one.high
    judge = Metric(balanced)
    assert (judge.name, judge.drop_column, judge.larger_is_better) == ("balanced", "drop", True)
    assert judge.loss_interval(other, one)[0] > 0
    worst = Metric(lambda y, outputs: float(np.abs(outputs).max()), larger_is_better=False)
    assert worst.loss(score(worst, 2 * ONE), score(worst)) == pytest.approx(np.abs(ONE).max())


def test_a_sum_weighs_the_outputs():
    class Two(Echo):
        output_names = ("kind", "price")

        def predict(self, x):
            return [x, x[:, :1]]

    data = ONE, {"kind": Y, "price": ONE[:, 1:2]}
    told = {"task": {"kind": "multiclass", "price": "regression"}}
    metric = Metric({"kind/accuracy": 1, "price/mae": -0.5})
    found = metric.score(Two(), data, told)
    expected = np.mean(ONE.argmax(1) == Y) - 0.5 * np.abs(ONE[:, 0] - ONE[:, 1]).mean()
    assert found.value == pytest.approx(expected) and found.low < expected < found.high
    single = Metric("price/mae").score(Two(), data, told)
    assert (
        single.value == pytest.approx(np.abs(ONE[:, 0] - ONE[:, 1]).mean()) and not Metric("price/mae").larger_is_better
    )
    with pytest.raises(
        ValueError, match="metric='accuracy': the model is judged by kind/accuracy, .* price/r2; pass one"
    ):
        Metric().score(Two(), data, told)


def test_what_is_no_metric_is_refused():
    with pytest.raises(TypeError, match="metric=3: expected the name of a figure, a dict of weights, or a function"):
        Metric.of(3)
    with pytest.raises(
        ValueError, match="metric='acuracy': expected figures of masslib.evaluate, such as accuracy, auc"
    ):
        Metric("acuracy")
    with pytest.raises(ValueError, match="the model is judged by accuracy, macro_f1, auc; pass one of these"):
        score("mae")
    with pytest.warns(RuntimeWarning), pytest.raises(ValueError, match="auc is nan for these data"):
        score("auc", y=np.zeros(900, int), task="multiclass")


def test_the_mean_of_seeds_has_the_mean_of_their_differences():
    scores = [score("accuracy", it) for it in (ONE, OTHER)]
    mean = mean_score(scores)
    assert mean.value == pytest.approx(np.mean([it.value for it in scores])) and mean.low < mean.value < mean.high
    metric = Metric()
    low, high = metric.loss_interval(mean, scores[0])
    assert low < metric.loss(mean, scores[0]) < high
    assert mean_score(scores[:1]) is scores[0]


@pytest.fixture(scope="module")
def prices():
    x = RNG.normal(size=(400, 6)).astype("float32")
    y = (x @ np.arange(6))[:, None] + RNG.normal(size=(400, 1))
    splits = masslib.data.Splits.from_arrays((x, y), valid=80, test=120)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    masslib.fit(model, splits.train, epochs=3, verbose=0)
    return model, splits


def test_a_regression_is_judged_by_its_error(prices, tmp_path):
    model, splits = prices
    table = masslib.compare(
        model, {"int8": Quantize("int8")}, splits, metric="mae", folder=tmp_path, verbose=False
    ).table
    assert table.loc["int8", "mae"] == evaluate(tmp_path / "int8.tflite", splits.test, task="regression").mae
    assert table.loc["int8", "drop"] == pytest.approx(table["mae"]["int8"] - table["mae"]["float"])
    assert table.loc["int8", "drop_low"] <= table.loc["int8", "drop"] <= table.loc["int8", "drop_high"]
    assert {"rmse", "r2", "valid_mae", "valid_drop"} <= set(table) and "drop_points" not in table


@pytest.mark.slow
def test_every_judge_takes_every_metric(prices):
    model, splits = prices
    found = masslib.search(model, splits, 0.5, metric="rmse", budget=3, max_steps=3, verbose=False)
    accepted = found.table[found.table["accepted"]]
    assert (accepted["rmse"] <= found.table["rmse"]["float"] + 0.5 + 1e-9).all()
    assert found.quality["best"]["rmse"] == found.test["best"].rmse
    assert "test rmse" in repr(found) and "loss 0 [0, 0]" not in repr(found)
    assert found.plot().axes[0].get_ylabel() == "Valid rmse"
    fast = masslib.fastest(model, splits, metric="r2", max_drop=0.5, verbose=False)
    assert fast.table.loc[fast.name, "drop_points"] <= 50 and fast.test["drop_low"] <= fast.test["drop_points"]
    falling = masslib.sensitivity(model, splits.valid, levels=[0.5, 0.9], metric="mae", verbose=False)
    assert falling.baseline == pytest.approx(evaluate(model, splits.valid).mae)
    assert (falling.metric, falling.larger_is_better) == ("mae", False)
    assert falling.within(1e9) == dict.fromkeys(falling.table.index, 0.9)
    assert falling.plot().axes[0].get_ylabel() == "MAE"
    huber = Metric(lambda y, outputs: float(np.minimum(np.abs(y - outputs), 1).mean()), larger_is_better=False)
    assert masslib.compare(model, {"int8": Quantize("int8")}, splits, metric=huber, verbose=False).table.shape[0] == 2


@pytest.mark.slow
def test_rivals_and_seeds_have_rows_and_ranges(digits, tmp_path):
    model, small = (models.mlp(digits.input_shape, digits.num_classes, hidden=(width,)) for width in (48, 6))
    for it in (model, small):
        it.compile("adam", "sparse_categorical_crossentropy")
        masslib.fit(it, digits.train, epochs=4, verbose=0)
    recipes = {"int8": Quantize("int8"), "pruned": masslib.Prune(0.9, max_steps=5)}
    report = masslib.compare(
        model, recipes, digits, rivals={"trained small": small}, seeds=2, folder=tmp_path, verbose=False
    )
    table = report.table
    assert table["kind"].to_dict() == {"float": "float", "int8": "recipe", "pruned": "recipe", "trained small": "rival"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "float.tflite",
        "int8.tflite",
        "pruned.tflite",
        "trained_small.tflite",
    ]
    assert table.loc["trained small", "accuracy"] == evaluate(small, digits.test).accuracy
    alone = [
        masslib.compress(model, recipes["pruned"], digits.train, seed=seed, verbose=False).model for seed in (0, 1)
    ]
    figures = [evaluate(it, digits.test).accuracy for it in alone]
    assert table.loc["pruned", ["lowest", "highest"]].tolist() == pytest.approx(sorted(figures))
    assert table.loc["pruned", "accuracy"] == pytest.approx(np.mean(figures))
    assert (table["low"] <= table["accuracy"]).all() and (table["accuracy"] <= table["high"]).all()
    assert (table["faster_low"] <= table["times_faster"]).all() and (
        table["times_faster"] <= table["faster_high"]
    ).all()
    assert table.loc["float", ["times_faster", "faster_low", "faster_high"]].tolist() == [1, 1, 1]
    report.plot()
    with pytest.raises(ValueError, match="or as one of rivals"):
        masslib.compare(model, {"int8": Quantize("int8")}, digits, rivals={"int8": small})


@pytest.mark.slow
def test_better_on_valid_by_luck_is_not_reported_as_better_on_test():
    """Planted: labels are drawn apart from the inputs, so that every network is right in a tenth of all rows."""
    rng = np.random.default_rng(7)
    parts = [(rng.normal(size=(n, 5)).astype("float32"), rng.integers(0, 10, n)) for n in (20, 100, 4000)]
    splits = masslib.data.Splits.from_arrays(*parts)

    def network(seed):
        kernel = keras.initializers.RandomNormal(seed=seed)
        return keras.Sequential([keras.Input((5,)), keras.layers.Dense(10, "softmax", kernel_initializer=kernel)])

    rivals = {f"rival {seed}": network(seed) for seed in range(1, 13)}
    model = network(0)
    model.compile(loss="sparse_categorical_crossentropy")
    report = masslib.compare(model, {}, splits, rivals=rivals, verbose=False)
    lucky = report.table["valid_accuracy"].idxmax()
    assert report.choose(report.table["valid_drop_points"].min() / 100) == lucky != "float"
    chosen = report.table.loc[lucky]
    assert chosen["valid_drop_points"] < -10  # the winner's luck
    assert chosen["drop_low"] < 0 < chosen["drop_high"]
    assert (np.abs(report.table["accuracy"] - 0.1) < 0.02).all()
    with pytest.raises(ValueError, match="by='kb' is no column of the table"):
        report.choose(0, by="kb")
