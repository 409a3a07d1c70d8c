"""Folds and layers that are tried side by side give the figures that they give in turn."""

import concurrent.futures
import multiprocessing

import keras
import pandas as pd
import pytest

import masslib
from masslib.evaluation import cross_validate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning:ray"),
]


@pytest.fixture(params=["map", "processes", "spark", "ray"])
def on(request):
    """Something that maps."""
    if request.param == "map":
        yield map
    elif request.param == "processes":
        with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
            yield pool
    else:
        engine = request.getfixturevalue(request.param)
        yield engine if request.param == "spark" else "ray"


def test_folds_and_layers_have_the_figures_that_they_have_in_turn(on, digits):
    def build():  # local: it must travel by value
        keras.utils.set_random_seed(3)
        model = masslib.models.mlp((8, 8, 1), 10, hidden=(16,))
        model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
        return model

    some = digits.train.select(slice(0, 400))
    options = {"folds": 3, "epochs": 2, "seed": 1, "verbose": False}
    expected = cross_validate(build, some, **options)
    assert expected["accuracy"].nunique() > 2
    pd.testing.assert_frame_equal(cross_validate(build, some, **options, on=on), expected, atol=0.01, rtol=0)

    model, levels = build(), [0.9, 0.5]
    masslib.fit(model, some, epochs=3, verbose=0)
    in_turn = masslib.sensitivity(model, some, levels=levels, verbose=False)
    found = masslib.sensitivity(model, some, levels=levels, on=on)
    pd.testing.assert_frame_equal(found.table, in_turn.table, atol=0.01, rtol=0)
    assert found.baseline == pytest.approx(in_turn.baseline, abs=0.01)
    assert (found.weights, repr(found.technique)) == (in_turn.weights, repr(in_turn.technique))


SEARCH = {"max_drop": 0.05, "budget": 6, "max_steps": 10, "batch_size": 32, "verbose": False}


@pytest.fixture(scope="module")
def in_turn(digits, tmp_path_factory):
    """A model, what a search finds for it in turn, and the folder of the search."""
    keras.utils.set_random_seed(5)
    model = masslib.models.mlp((8, 8, 1), 10, hidden=(32,))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    masslib.fit(model, digits.train, batch_size=32, epochs=6, verbose=0)
    folder = tmp_path_factory.mktemp("in-turn") / "search"
    return model, masslib.search(model, digits, folder=folder, **SEARCH), folder


def test_a_search_makes_the_trials_and_finds_the_best_that_it_finds_in_turn(on, digits, in_turn, tmp_path):
    model, expected, folder = in_turn
    found = masslib.search(model, digits, folder=tmp_path / "ahead", on=on, **SEARCH)

    same = ["accepted", "recipe", "note"]
    pd.testing.assert_frame_equal(found.table[same], expected.table[same])
    near = ["accuracy", "gzipped_kb", "nonzero"]
    pd.testing.assert_frame_equal(found.table[near], expected.table[near], rtol=0.02)
    assert found.name == expected.name != "float"
    assert (found.stopped, repr(found.best.steps)) == (expected.stopped, repr(expected.best.steps))
    assert found.test["best"].accuracy == pytest.approx(expected.test["best"].accuracy, abs=0.01)
    places = sorted(path.relative_to(tmp_path / "ahead") for path in (tmp_path / "ahead").rglob("*"))
    assert places == sorted(path.relative_to(folder) for path in folder.rglob("*"))
    again = masslib.search(
        model, digits, folder=tmp_path / "ahead", **SEARCH
    )  # in turn, with the trials that lie there
    assert again.table[1:].equals(found.table[1:])


def test_the_error_of_a_fold_is_raised(digits):
    def build():
        raise OverflowError("much too much")

    with pytest.raises(OverflowError, match="much too much"):
        cross_validate(build, digits.train, folds=2, on=map)
