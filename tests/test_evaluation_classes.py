from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics

from masslib.data import from_arrays
from masslib.evaluation import evaluate
from masslib.evaluation.calibration import calibration_error, reliability

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 5, 4000)
P = softmax(2 * np.eye(5)[Y] + 1.5 * RNG.normal(size=(4000, 5)), axis=1)


class Echo:
    """A model whose outputs are its inputs."""

    def predict(self, x):
        return x


def run(outputs, y, **options):
    return evaluate(Echo(), (outputs, y), **options)


def test_a_calibrated_model_has_no_calibration_error_and_an_overconfident_one_has():
    y = (RNG.random(20_000)[:, None] > np.cumsum(np.tile(P, (5, 1)), axis=1)).sum(axis=1).clip(max=4)
    honest = run(np.tile(P, (5, 1)), y)
    assert honest.ece < 0.015
    sure = run(softmax(3 * np.log(np.tile(P, (5, 1))), axis=1), y)
    assert sure.ece > 0.1 and sure.accuracy == honest.accuracy
    rows, confidence, accuracy = sure.reliability.T
    assert rows.sum() == 20_000 and np.nansum(rows * accuracy) == pytest.approx(20_000 * sure.accuracy)
    assert np.nansum(rows * np.abs(confidence - accuracy)) / 20_000 == pytest.approx(sure.ece)
    assert sure.plot_reliability().axes[0].get_xlabel() == "Confidence"


def test_binary_calibration_is_that_of_its_two_classes():
    chance = RNG.random(500)
    y = (RNG.random(500) < chance).astype(int)
    one, two = run(chance, y, task="binary"), run(np.stack([1 - chance, chance], 1), y)
    assert one.ece == pytest.approx(two.ece) and two.task == "multiclass"
    assert run(np.log(chance / (1 - chance)), y, task="binary").ece == pytest.approx(one.ece)
    assert run(chance - 0.5, 2 * y - 1, task="binary").ece is None  # a hinge has no probabilities
    with pytest.raises(ValueError, match="no probabilities of classes"):
        run(chance - 0.5, 2 * y - 1, task="binary").plot_reliability()
    table = reliability(np.array([0.0, 1.0, 1.004]), np.array([False, True, True]))
    assert table[[0, -1], 0].tolist() == [1, 2] and calibration_error(table) == pytest.approx(0.004 / 3)


def test_rows_of_the_ignored_class_do_not_count():
    kept = RNG.random(4000) < 0.7
    expected = run(P[kept], Y[kept])
    assert run(P, np.where(kept, Y, 9), ignore_class=9) == expected
    with pytest.raises(ValueError, match="all rows have the ignored class 9"):
        run(P, np.full(4000, 9), ignore_class=9, task="multiclass")


def test_weights_are_those_of_scikit_learn():
    weights = RNG.random(4000)
    found = evaluate(Echo(), (P, Y, weights))
    predicted = P.argmax(1)
    assert found.metrics == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(Y, predicted, sample_weight=weights),
            "macro_f1": metrics.f1_score(Y, predicted, average="macro", sample_weight=weights),
            "auc": metrics.roc_auc_score(Y, P, multi_class="ovr", sample_weight=weights),
        }
    )
    assert found.right is None and found.accuracy_interval[0] < found.accuracy < found.accuracy_interval[1]
    precision, recall, f1, support = metrics.precision_recall_fscore_support(Y, predicted, sample_weight=weights)
    np.testing.assert_allclose(found.per_class.to_numpy().T, [precision, recall, f1, support])


def test_rows_out_of_scope_are_told_by_the_probability_of_the_predicted_class():
    outside = RNG.random(4000) < 0.3
    y = np.where(outside, -1, Y)
    logits = np.where(outside[:, None], RNG.normal(size=P.shape), np.log(P))
    found = run(logits, y, task="out_of_scope")
    score = softmax(logits, axis=1).max(axis=1)
    assert found.auc == pytest.approx(metrics.roc_auc_score(~outside, score))
    assert found.accuracy == pytest.approx(np.mean(logits.argmax(1)[~outside] == Y[~outside]))
    threshold = np.sort(score[~outside])[int(np.floor(0.05 * (~outside).sum()))]
    assert found.fpr95 == pytest.approx((score[outside] >= threshold).mean(), abs=0.003)
    low, high = found.intervals["auc"]
    assert 0.5 < low < found.auc < high
    assert run(logits, np.where(outside, 150, Y), task="out_of_scope", ignore_class=150).metrics == found.metrics
    with pytest.raises(ValueError, match="all rows are in scope; expected rows of both kinds, .* the label -1"):
        run(P, Y, task="out_of_scope")


def test_names_stand_in_the_table_of_classes():
    named = evaluate(Echo(), from_arrays(P, Y, classes=list("abcde")))
    assert list(named.per_class.index) == list("abcde")
    assert named.per_class["rows"].sum() == 4000
