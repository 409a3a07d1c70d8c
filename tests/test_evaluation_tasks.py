from __future__ import annotations

import warnings

import numpy as np
import pytest

from masslib.data import from_arrays
from masslib.evaluation import evaluate
from masslib.evaluation.tasks import compiled_task

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
    assert run(two, Y2, task="binary").metrics == pytest.approx(run(P2, Y2, task="binary").metrics)


@pytest.mark.parametrize(
    ("outputs", "y", "task"),
    [
        (P3, Y3, "multiclass"),
        (P3, Y3[:, None].astype("uint8"), "multiclass"),
        (P3, Y3.astype(float), "multiclass"),
        (P2, Y2 == 1, "binary"),
        (P3, np.stack([Y3 > 0, Y3 > 1, Y3 > 2], 1), "multilabel"),
        (P3, P3, "regression"),
        (P2, Y2 + 3, "regression"),
        (P2, -5 * Y2, "regression"),
    ],
)
def test_the_only_task_that_fits_is_taken(outputs, y, task):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of labels that are all alike
        assert run(outputs, y).task == task


@pytest.mark.parametrize(
    ("outputs", "y", "tasks"),
    [
        (P2, Y2, "'binary' and 'regression'"),
        (P2, Y2.astype("float32"), "'binary' and 'regression'"),
        (P2, 2 * Y2 - 1, "'binary' and 'regression'"),
        (P3, np.eye(3)[Y3], "'multiclass' and 'multilabel' and 'regression'"),
        (P3, np.stack([Y3 > 0, Y3 > 1, Y3 > 2], 1).astype(int), "'multilabel' and 'regression'"),
    ],
)
def test_nothing_is_guessed(outputs, y, tasks):
    with pytest.raises(ValueError, match=f"that fits {tasks}, and no compiled loss tells which. Pass one of them"):
        run(outputs, y)


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
@pytest.mark.parametrize(
    ("outputs", "loss", "y", "task"),
    [
        (1, "binary_crossentropy", Y2, "binary"),
        (1, "mse", Y2, "regression"),
        (1, "BinaryFocalCrossentropy", Y2.astype("float32"), "binary"),
        (1, "Hinge", 2 * Y2 - 1, "binary"),
        (3, "binary_crossentropy", np.eye(3)[Y3], "multilabel"),
        (3, "CategoricalCrossentropy", np.eye(3)[Y3], "multiclass"),
        (3, "SparseCategoricalCrossentropy", Y3, "multiclass"),
        (3, "MeanSquaredError", np.eye(3)[Y3], "regression"),
    ],
)
def test_the_compiled_loss_is_asked(library, outputs, loss, y, task):
    keras = pytest.importorskip(library)
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(outputs)])
    own = keras.losses.MeanSquaredError if loss == "mse" else getattr(keras.losses, loss)
    for one in (loss, [loss]) if loss.islower() else (own(),):
        model.compile("sgd", one)
        assert compiled_task(model) == task
    assert evaluate(model, (RNG.normal(size=(len(y), 2)).astype("float32"), y)).task == task
    model.compile("sgd", lambda y, p: own()(y, p) if isinstance(own, type) else own(y, p))
    assert compiled_task(model) == "auto"


def test_one_hot_labels_are_classes():
    assert run(P3, np.eye(3)[Y3], task="multiclass") == run(P3, Y3)


@pytest.mark.parametrize(
    ("outputs", "y", "options", "error", "words"),
    [
        (P3, Y3, {"task": "ranks"}, ValueError, r"task is 'ranks'; expected one of 'auto', 'multiclass'"),
        (P3, Y3, {"batch_size": 0}, ValueError, "batch_size=0: expected a whole number of at least 1"),
        (P3, Y3 + 1, {}, ValueError, "labels from 1 to 3, but the model tells 3 classes apart"),
        (P3, Y3 - 1, {}, ValueError, "labels from -1 to 1"),
        (P3, 0.9 * np.eye(3)[Y3], {"task": "multiclass"}, ValueError, r"or one-hot labels \(n, 3\)"),
        (P3, P3, {"task": "multilabel"}, ValueError, "expected labels of 0 and 1, .600, 3., for task='multilabel'"),
        (P2, Y2, {"task": "multilabel"}, ValueError, "'multilabel', but the model has one output"),
        (P3, Y3 + 0.5, {"task": "multiclass"}, ValueError, "fractional labels"),
        (P3, np.stack([Y3, Y3], 1), {}, ValueError, r"of shape \(600, 2\) .* 3 outputs per row; no task fits"),
        (P3, Y3.astype(str), {}, TypeError, "y has dtype <U.*expected class indices"),
        (P3, np.where(Y3 == 1, np.nan, 0.0), {}, ValueError, "y contains NaN"),
        (P3, Y3, {"task": "binary"}, ValueError, "task is 'binary', but the model has 3 outputs"),
        (P2, Y2, {"task": "multiclass"}, ValueError, "'multiclass', but the model has one output"),
        (P3, Y3 / 2, {"task": "regression"}, ValueError, r"gives \(3,\) per row, but y has \(\)"),
    ],
)
def test_errors_say_what_is_wrong(outputs, y, options, error, words):
    with pytest.raises(error, match=words):
        run(outputs, y, **options)


def test_names_must_be_as_many_as_outputs():
    with pytest.raises(ValueError, match="name 4 classes, but the model tells 3 apart"):
        evaluate(Echo(), from_arrays(P3, Y3, classes=["a", "b", "c", "d"]))
