from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import log_softmax, logit
from sklearn import metrics

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


def test_multiclass_is_what_scikit_learn_says():
    result = run(P3, Y3)
    predicted = P3.argmax(axis=1)
    assert (result.task, result.n) == ("multiclass", 600)
    assert result.metrics == pytest.approx(
        {
            "accuracy": np.mean(predicted == Y3),
            "macro_f1": metrics.f1_score(Y3, predicted, average="macro"),
            "auc": metrics.roc_auc_score(Y3, P3, multi_class="ovr"),
        },
        abs=1e-12,
    )
    assert result.precision is result.mae is None


def test_confusion_rows_are_true_classes():
    result = run(np.eye(3)[[0, 1, 1, 2]], [0, 0, 1, 2])
    np.testing.assert_array_equal(result.confusion, [[1, 1, 0], [0, 1, 0], [0, 0, 1]])


def test_interval_is_wilsons():
    n, z = 600, 1.959963984540054
    p = run(P3, Y3).accuracy
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert run(P3, Y3).accuracy_interval == pytest.approx((middle - half, middle + half), rel=1e-12)


def test_logits_give_the_figures_of_their_probabilities():
    shifted = np.log(P3) + RNG.normal(0, 5, (600, 1))  # a softmax does not see it
    assert run(shifted, Y3).metrics == pytest.approx(run(P3, Y3).metrics)
    expected = run(P2, Y2, task="binary")
    assert run(logit(P2), Y2, task="binary").metrics == pytest.approx(expected.metrics)
    two = np.stack([1 - P2, P2], axis=1)
    assert run(log_softmax(two, axis=1), Y2).auc == pytest.approx(expected.auc)


def test_quantized_probabilities_need_not_sum_to_one():
    rounded = np.round(P3 * 20) / 20
    assert (rounded.sum(axis=1) != 1).any()
    expected = np.mean([metrics.roc_auc_score(c == Y3, rounded[:, c]) for c in range(3)])
    assert run(rounded, Y3).auc == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_binary(shape):
    result = run(P2.reshape(shape), Y2.reshape(shape).astype("float32"), task="binary")
    predicted = P2 > 0.5
    assert result.task == "binary"
    assert result.metrics == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(Y2, predicted),
            "precision": metrics.precision_score(Y2, predicted),
            "recall": metrics.recall_score(Y2, predicted),
            "f1": metrics.f1_score(Y2, predicted),
            "auc": metrics.roc_auc_score(Y2, P2),
        }
    )
    assert result.confusion.sum() == 500
    assert result.confusion[1, 0] == np.sum((Y2 == 1) & ~predicted)


def test_labels_of_a_hinge_loss_have_their_threshold_at_zero():
    outputs = np.array([0.3, -0.2, 0.4, 0.9])  # all above -0.5, as probabilities could be
    result = run(outputs, [1, -1, -1, 1], task="binary")
    assert (result.accuracy, result.auc) == (0.75, metrics.roc_auc_score([1, 0, 0, 1], outputs))
    assert run(outputs[[0, 3]], [1, -1], task="binary").accuracy == 0.5


@pytest.mark.parametrize("kind", [int, bool, "uint8", "float32"])
def test_multilabel_is_what_scikit_learn_says(kind):
    y = RNG.random((300, 3)) < [0.2, 0.5, 0.7]
    scores = np.clip(0.3 * y + RNG.uniform(0, 0.7, y.shape), 0.01, 0.99)
    predicted = scores > 0.5
    result = run(scores, y.astype(kind), task="multilabel")
    assert result.metrics == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(y, predicted),
            "micro_f1": metrics.f1_score(y, predicted, average="micro"),
            "macro_f1": metrics.f1_score(y, predicted, average="macro"),
            "auc": metrics.roc_auc_score(y, scores),
            "mean_ap": metrics.average_precision_score(y, scores, average="macro"),
        }
    )
    precision, recall, f1, support = metrics.precision_recall_fscore_support(y, predicted, average=None)
    expected = {"precision": precision, "recall": recall, "f1": f1, "rows": support}
    expected["ap"] = metrics.average_precision_score(y, scores, average=None)
    assert {name: list(column) for name, column in result.per_class.items()} == {
        name: pytest.approx(list(values)) for name, values in expected.items()
    }
    assert (result.task, result.n, result.confusion) == ("multilabel", 300, None)
    assert run(logit(scores), y, task="multilabel").metrics == pytest.approx(result.metrics)
    y[:, 1] = True
    with pytest.warns(RuntimeWarning, match="y has no rows both with and without of: dog"):
        named = evaluate(Echo(), from_arrays(scores, y, classes=["cat", "dog", "emu"]), task="multilabel")
    assert math.isnan(named.auc) and named.classes == ("cat", "dog", "emu")


def test_regression():
    y = RNG.normal(size=(50, 2))
    result = run(y + [0.5, -0.5], y)
    assert result.task == "regression"
    assert result.mae == pytest.approx(0.5)
    assert result.rmse == pytest.approx(0.5)
    assert result.r2 == pytest.approx(1 - 0.25 * np.mean(1 / y.var(axis=0)))
    assert result.accuracy is result.confusion is result.accuracy_interval is None
    assert run(np.array([3.0, 4.0]), [3, 5], task="regression").mae == 0.5


def test_of_many_absent_classes_the_first_ten_are_named():
    y = np.array([0, 1, 1])
    with pytest.warns(RuntimeWarning, match=r"no row of: 2, 3, .*, 11 and 28 more\.$"):
        run(np.eye(40)[y], y)


def test_absent_class_leaves_auc_undefined_and_says_which():
    keep = Y3 != 1
    with pytest.warns(RuntimeWarning, match="AUC is undefined, because y has no row of: bag"):
        result = evaluate(Echo(), from_arrays(P3[keep], Y3[keep], classes=["shoe", "bag", "shirt"]))
    assert math.isnan(result.auc)
    assert result.confusion.shape == (3, 3)
    assert result.accuracy == np.mean(P3[keep].argmax(axis=1) == Y3[keep])
    with pytest.warns(RuntimeWarning, match="no row of: 0"):
        assert run([0.2, 0.9], [1, 1], task="binary").accuracy == 0.5
