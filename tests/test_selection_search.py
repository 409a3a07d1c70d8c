"""A search returns the best within the budget, can be stopped and go on, and looks at the test split once."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import masslib
from masslib import export, measure, models, search
from masslib._util.lock import lock
from masslib.selection import candidates, trials
from masslib.selection.candidates import Family, next_candidate
from masslib.selection.search_result import table_of
from masslib.selection.trials import Trial

QUICK = {"max_steps": 20, "learning_rate": 1e-3, "batch_size": 32, "verbose": False}


@pytest.fixture(scope="module")
def model(digits):
    model = models.mlp(digits.input_shape, digits.num_classes, hidden=(48, 24))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    masslib.fit(model, digits.train, batch_size=32, epochs=8, verbose=0)
    return model


@pytest.fixture(scope="module")
def found(model, digits, tmp_path_factory):
    return search(model, digits, 0.05, budget=5, folder=tmp_path_factory.mktemp("search") / "kept", **QUICK)


@pytest.mark.slow
def test_the_best_is_the_smallest_that_was_accepted_and_every_figure_is_that_of_the_file(found, model, digits):
    table = found.table
    assert len(table) == 6
    assert list(table.index[:4]) == ["float", "dynamic", "int8", "prune + int8 @ 50 %"]
    accepted = table[table["accepted"]]
    assert found.name == accepted["gzipped_kb"].idxmin() != "float"
    assert (accepted["drop_points"] <= 5).all() and (table[~table["accepted"]]["drop_points"] > 5).all()
    assert measure.file_size(found.file).gzipped == pytest.approx(1000 * table.loc[found.name, "gzipped_kb"])
    assert masslib.evaluate(found.file, digits.valid).accuracy == table.loc[found.name, "accuracy"]
    assert table.loc[found.name, "times_smaller"] > 4
    assert found.test["best"] == masslib.evaluate(found.file, digits.test)
    assert found.test["float"].accuracy == masslib.evaluate(model, digits.test).accuracy
    assert found.stopped == "the budget of trials is used"


@pytest.mark.slow
def test_the_best_model_makes_the_best_file(found, digits, tmp_path):
    path = export.tflite(found.best, tmp_path / "again.tflite")
    x, _ = digits.test[:]
    np.testing.assert_array_equal(export.load(path).predict(x), export.load(found.file).predict(x))


@pytest.mark.slow
def test_it_is_shown_and_drawn(found):
    assert str(found).startswith(f"best: {found.name}; test accuracy 0.")
    assert "<table" in found._repr_html_() and "int8" in found._repr_html_()
    assert found.plot().axes[0].get_ylabel() == "Validation accuracy"


@pytest.mark.slow
def test_it_tells_why_a_trial_could_not_be_made(digits):
    entry = keras.Input((8, 8, 1))
    x = keras.layers.LSTM(8, name="memory")(keras.layers.Reshape((8, 8))(entry))
    recurrent = keras.Model(entry, keras.layers.Dense(10, activation="softmax", name="top")(x))
    recurrent.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    judge = trials.Judge.__new__(trials.Judge)
    judge._model, judge._splits, judge._options = recurrent, digits, {"verbose": False}
    int8 = Family("int8", lambda _: [masslib.Quantize("int8")], single=True)
    trial = judge.trial(candidates.Candidate(int8, 0.5), None, None)
    table = table_of({"accuracy": 0.5, "gzipped_kb": 1.0}, [trial])
    shown = masslib.selection.Search(None, "float", table, {"float": _right, "best": _right}, None, None, "done", 0.1)
    for text in (str(shown), shown._repr_html_()):
        assert "not made: int8, Quantize(" in text and "recurrent layers memory; use" in text


_right = masslib.evaluation.Evaluation("binary", 2, accuracy=0.5)


@pytest.mark.slow
def test_limits_may_be_numbers_of_numpy(model, digits):
    found = search(model, digits, np.float32(0.5), budget=np.int64(1), **QUICK | {"batch_size": np.int64(32)})
    assert list(found.table.index) == ["float", "dynamic"]


@pytest.mark.slow
def test_it_goes_on_where_it_was_stopped(found, model, digits, monkeypatch):
    folder = found.file.parent.parent
    made = []
    monkeypatch.setattr(trials.Folder, "make", lambda self, number, *_: made.append(number))
    again = search(model, digits, 0.05, budget=5, folder=folder, **QUICK)
    assert not made
    assert (again.name, again.file) == (found.name, found.file)
    fixed = ["accepted", "accuracy", "gzipped_kb", "recipe"]
    assert again.table[fixed].equals(found.table[fixed])
    fewer = search(model, digits, 0.05, budget=2, folder=folder, **QUICK)
    assert list(fewer.table.index) == ["float", "dynamic", "int8"]


@pytest.mark.slow
def test_two_searches_do_not_share_a_folder(found, model, digits):
    folder = found.file.parent.parent
    with lock(folder), pytest.raises(RuntimeError, match="is in use by process"):
        search(model, digits, 0.05, folder=folder, **QUICK)


@pytest.mark.slow
def test_an_interrupt_returns_the_best_so_far(model, digits, monkeypatch):
    make, made = trials.Folder.make, []

    def interrupted(self, number, *arguments):
        if number == 2:
            raise KeyboardInterrupt
        made.append(number)
        return make(self, number, *arguments)

    monkeypatch.setattr(trials.Folder, "make", interrupted)
    found = search(model, digits, 0.05, budget=6, **QUICK)
    assert made == [0, 1]
    assert found.stopped == "interrupted"
    assert found.name in ("dynamic", "int8")
    assert found.file is None
    assert found.best.precision == found.name


def test_when_nothing_is_good_enough_the_float_model_is_returned(model, digits, monkeypatch):
    def refused(self, number, judge, candidate):
        return Trial(candidate.name, candidate.family.name, candidate.strength, "", False, (), {}, note="too bad")

    monkeypatch.setattr(trials.Folder, "make", refused)
    found = search(model, digits, 0.0, budget=2, **QUICK)
    assert found.table["accepted"].to_list() == [True, False, False]
    assert found.sensitivity is None, "neither of the two recipes asks what a layer may lose"
    assert found.table.loc["int8", "note"] == "too bad"
    assert found.name == "float"
    assert found.test["best"] == found.test["float"]
    assert found.best.steps == ()
    for a, b in zip(found.best.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_time_is_limited(model, digits):
    found = search(model, digits, 0.05, budget=2, max_seconds=1e-9, **QUICK)
    assert found.stopped == "the time is up"
    assert list(found.table.index) == ["float"]


@pytest.mark.slow
def test_other_searches_and_damage_are_refused(found, model, digits, tmp_path):
    folder = found.file.parent.parent
    with pytest.raises(ValueError, match="holds a search with another max_drop, objective; pass another folder"):
        search(model, digits, 0.01, "latency", folder=folder, **QUICK)
    other = keras.models.clone_model(model)
    other.compile(loss="sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="holds a search with another model;"):
        search(other, digits, 0.05, folder=folder, **QUICK)
    fewer = dataclasses.replace(digits, train=digits.train.take(500))
    with pytest.raises(ValueError, match="holds a search with another data;"):
        search(model, fewer, 0.05, folder=folder, **QUICK)
    note = folder / "trial-000" / "trial.json"
    whole = note.read_text()
    try:
        note.write_text(json.dumps(json.loads(whole) | {"accepted": False}))
        with pytest.raises(ValueError, match="trial.json is damaged"):
            search(model, digits, 0.05, budget=5, folder=folder, **QUICK)
    finally:
        note.write_text(whole)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"objective": "beauty"}, "objective='beauty': expected one of 'size', 'packed', 'latency', 'flops'"),
        ({"max_drop": 1.5}, "max_drop=1.5: expected a fraction"),
        ({"budget": 0}, "budget=0: expected a whole number of at least 1"),
        ({"max_seconds": -1}, "max_seconds=-1: expected a positive number of seconds"),
        ({"epochs": 0}, r"epochs=0\): expected a positive integer"),
    ],
)
def test_bad_arguments_are_refused(model, digits, arguments, words):
    with pytest.raises(ValueError, match=words):
        search(model, digits, **arguments)


def test_bad_models_are_refused(digits):
    with pytest.raises(ValueError, match="is not compiled, so its loss is unknown"):
        search(models.mlp((64,), 10), digits)
    with pytest.raises(TypeError, match="expected a Keras 3 model, got str"):
        search("model", digits)


@dataclasses.dataclass
class Made:
    family: str
    strength: float
    accepted: bool
    score: tuple


def test_the_leading_family_is_bisected_to_the_border():
    """Strengths up to 0.62 are accepted, and stronger is smaller; the weak family never leads."""
    families = [Family("one", list, single=True), Family("weak", list), Family("strong", list)]
    tried = []
    while (candidate := next_candidate(families, tried)) is not None:
        name, strength = candidate.family.name, candidate.strength
        size = {"one": 50, "weak": 40, "strong": 20}[name] - 10 * strength
        tried.append(Made(name, strength, name == "one" or strength <= 0.62, (size,)))
        assert len(tried) < 30
    assert [trial.family for trial in tried[:4]] == ["one", "weak", "strong", "strong"]
    best = min((trial for trial in tried if trial.accepted), key=lambda trial: trial.score)
    assert best.family == "strong"
    assert 0.57 <= best.strength <= 0.62
    # The same trials in, the same next one out.
    assert next_candidate(families, tried[:5]) == next_candidate(families, list(tried[:5]))


def test_families_without_a_success_take_turns_the_strongest_first():
    families = [Family("weak", list), Family("strong", list)]
    tried = []
    for _ in range(6):
        candidate = next_candidate(families, tried)
        tried.append(Made(candidate.family.name, candidate.strength, False, ()))
    assert [trial.family for trial in tried] == ["weak", "strong", "strong", "weak", "strong", "weak"]
    assert [trial.strength for trial in tried] == [0.5, 0.5, 0.25, 0.25, 0.125, 0.125]


@pytest.mark.slow
def test_stronger_recipes_prune_every_layer_at_least_as_much(found):
    sparsities = [candidates.sparsities(found.sensitivity, strength) for strength in (0.0, 0.3, 0.6, 1.0)]
    for gentle, strong in zip(sparsities, sparsities[1:], strict=False):
        assert all(strong[name] >= sparsity for name, sparsity in gentle.items())
    assert sum(sparsities[0].values()) < sum(sparsities[-1].values())


@pytest.mark.exhaustive
@pytest.mark.parametrize("objective, column", [("latency", "times_faster"), ("flops", "mflops")])
def test_operations_and_time_are_saved_by_other_recipes(digits, objective, column):
    model = models.mlp(digits.input_shape, digits.num_classes)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    masslib.fit(model, digits.train, batch_size=32, epochs=8, verbose=0)
    found = search(model, digits, 0.05, objective, budget=6, **QUICK)
    assert found.sensitivity is None, "no recipe by layer saves operations or time"
    accepted = found.table[found.table["accepted"]]
    best = accepted[column].idxmin() if column == "mflops" else accepted[column].idxmax()
    assert found.table.loc[found.name, column] == pytest.approx(accepted.loc[best, column])
    if objective == "flops":
        assert found.table.loc[found.name, "mflops"] < 0.8 * found.table.loc["float", "mflops"]


@pytest.mark.slow
def test_the_smallest_packed_file_is_searched_for(model, digits, tmp_path):
    found = search(model, digits, 0.05, "packed", budget=4, folder=tmp_path / "kept", **QUICK)
    table = found.table
    assert list(table.index[1:4]) == ["dynamic", "int8", "squeeze @ 50 %"]
    accepted = table[table["accepted"]]
    assert found.name == accepted["packed_kb"].idxmin()
    assert found.file.suffix == ".packed" and found.file.stat().st_size == 1000 * table.loc[found.name, "packed_kb"]
    assert masslib.evaluate(found.file, digits.valid).accuracy == table.loc[found.name, "accuracy"]
    assert found.file.read_bytes() == export.packed(found.best, tmp_path / "again.packed").read_bytes()
