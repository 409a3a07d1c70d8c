"""Slices are judged as their rows alone would be, in every task and whatever the pieces."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from masslib.evaluation import evaluate

RNG = np.random.default_rng(0)
N = 1000
SHIFT = RNG.permutation(np.repeat(["day", "night"], N // 2))
TASKS = {
    "multiclass": (RNG.dirichlet((1, 1, 1), N), RNG.integers(0, 3, N)),
    "binary": (RNG.random((N, 1)), RNG.integers(0, 2, N)),
    "multilabel": (RNG.random((N, 4)), RNG.integers(0, 2, (N, 4))),
    "regression": (RNG.normal(size=(N, 2)), RNG.normal(size=(N, 2))),
    "segmentation": (RNG.dirichlet((1, 1), (N, 3, 3)), RNG.integers(0, 2, (N, 3, 3))),
    "tokens": (RNG.dirichlet((1, 1, 1), (N, 5)), RNG.integers(0, 3, (N, 5))),
    "ranking": (RNG.random((N, 6)), RNG.integers(0, 6, N)),
}


class Echo:
    """A model whose outputs are its inputs."""

    def predict(self, x):
        return x


@pytest.mark.parametrize("task", TASKS)
def test_a_slice_is_judged_as_its_rows_alone(task, monkeypatch):
    outputs, y = TASKS[task]
    monkeypatch.setattr("masslib.evaluation.outputs._CHUNK_BYTES", 5000)  # many pieces
    found = evaluate(Echo(), (outputs, y), task=task, slices={"shift": SHIFT}, batch_size=64)
    whole = evaluate(Echo(), (outputs, y), task=task, batch_size=64)
    assert found.metrics == whole.metrics and found.intervals == whole.intervals
    assert list(found.slices) == ["shift=day", "shift=night"]
    for name, part in found.slices.items():
        rows = name.removeprefix("shift=") == SHIFT
        alone = evaluate(Echo(), (outputs[rows], y[rows]), task=task)
        assert part.metrics == pytest.approx(alone.metrics) and part.n == alone.n
        assert list(part.intervals) == list(alone.intervals)
        assert np.allclose(list(part.intervals.values()), list(alone.intervals.values()))


def test_the_worst_slice_comes_first():
    y = np.arange(N) % 2
    night = SHIFT == "night"
    outputs = np.where(night & (RNG.random(N) < 0.3), 1 - y, y).astype(float)
    slices = {"night": night, "day": ~night}
    table = evaluate(Echo(), (outputs, y), task="binary", slices=slices).by_slice
    assert list(table.index) == ["night", "day"]
    assert table["accuracy"]["night"] == accuracy_score(y[night], outputs[night]) and table["n"]["night"] == N // 2
    assert table["low"]["night"] < table["accuracy"]["night"] < table["high"]["night"]
    errors = evaluate(Echo(), (outputs, y.astype(float)), task="regression", slices=slices).by_slice
    assert list(errors.index) == ["night", "day"]  # where small is good, the largest comes first
    assert evaluate(Echo(), (outputs, y), task="binary").by_slice.empty


def test_weights_users_and_several_outputs_follow_the_slices():
    y, weights, night = TASKS["binary"][1], RNG.random(N), SHIFT == "night"
    outputs = TASKS["binary"][0]
    one = evaluate(Echo(), (outputs, y, weights), task="binary", slices={"night": night}).slices["night"]
    assert one.metrics == pytest.approx(
        evaluate(Echo(), (outputs[night], y[night], weights[night]), task="binary").metrics
    )
    users = RNG.integers(0, 40, N)
    one = evaluate(Echo(), (outputs, y), task="ranking", groups=users, slices={"night": night}).slices["night"]
    alone = evaluate(Echo(), (outputs[night], y[night]), task="ranking", groups=users[night])
    assert one.metrics == alone.metrics
    both = {"a": outputs, "b": outputs**2}
    found = evaluate(Echo(), (both, {"a": y, "b": y}), task="binary", slices={"night": night})
    assert {name: it.slices["night"].n for name, it in found.items()} == {"a": N // 2, "b": N // 2}


def test_a_slice_without_a_class_is_no_reason_to_warn():
    outputs, y = TASKS["binary"]
    found = evaluate(Echo(), (outputs, y), task="binary", slices={"ones": y == 1}).slices["ones"]
    assert np.isnan(found.auc) and found.accuracy > 0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (np.zeros(3, bool), "has shape (3,)"),
        (np.zeros(N, bool), "chooses none of the 1000 rows"),
        (np.arange(N), "has 1000 values, at most 50"),
    ],
)
def test_slices_that_make_no_sense_are_refused(given, told):
    with pytest.raises(ValueError, match="slices") as error:
        evaluate(Echo(), TASKS["binary"], task="binary", slices={"part": given})
    assert told in str(error.value)
