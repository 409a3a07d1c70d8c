from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedKFold

import masslib
from masslib.data import from_arrays
from masslib.evaluation import cross_validate, evaluate


@pytest.fixture(scope="module")
def digits():
    return masslib.data.load("digits").train


def build():
    model = masslib.models.mlp((8, 8, 1), 10, hidden=(32,))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    return model


@pytest.fixture(scope="module")
def table(digits):
    return cross_validate(build, digits, folds=3, epochs=8, batch_size=32, seed=1, verbose=False)


def test_each_row_is_a_model_trained_without_the_rows_that_judge_it(digits, table):
    splits = StratifiedKFold(3, shuffle=True, random_state=1).split(digits.y, digits.y)
    for name, (train, test) in zip(["1", "2", "3"], splits, strict=True):
        model = build()
        masslib.fit(model, digits.select(train), epochs=8, batch_size=32, seed=1, verbose=0)
        assert table.loc[name].to_dict() == pytest.approx(evaluate(model, digits.select(test)).metrics)
        assert table.loc[name, "accuracy"] > 0.7, "chance is 0.1"


def test_the_last_rows_are_mean_and_sample_deviation(table):
    assert table.index.to_list() == ["1", "2", "3", "mean", "std"]
    folds = table.to_numpy()[:3]
    np.testing.assert_allclose(table.loc["mean"], folds.mean(axis=0))
    np.testing.assert_allclose(table.loc["std"], folds.std(axis=0, ddof=1))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_table_from_arrays_too(digits):
    first = cross_validate(build, digits, folds=2, verbose=False)
    pd.testing.assert_frame_equal(cross_validate(build, digits[:], folds=2, verbose=False), first)
    assert not cross_validate(build, digits, folds=2, seed=1, verbose=False).equals(first)


def test_an_undefined_figure_is_not_averaged_away(digits):
    rare = digits.y.copy()
    rare[rare == 9] = 8
    rare[:1] = 9  # one row of class 9, absent from one of two folds
    with pytest.warns(RuntimeWarning, match="AUC is undefined"), pytest.warns(UserWarning, match="least populated"):
        table = cross_validate(build, (digits[:][0], rare), folds=2, verbose=False)
    assert sorted(table["auc"].isna()[:2]) == [False, True]
    assert np.isnan(table.loc[["mean", "std"], "auc"]).all()
    assert np.isfinite(table.loc["mean", "accuracy"])


def test_errors(digits):
    used = build()
    with pytest.raises(ValueError, match=r"build\(\) returned a model trained for \d+ steps; expected a new one"):
        cross_validate(lambda: used, digits.take(100), folds=2, verbose=False)
    with pytest.raises(ValueError, match="has no class numbers"):
        cross_validate(build, from_arrays(np.zeros((9, 2)), np.linspace(0, 1, 9)), verbose=False)
    with pytest.raises(ValueError, match="n_splits=1"):
        cross_validate(build, digits, folds=1, verbose=False)
    with pytest.raises(TypeError, match="data is a ndarray; expected a Subset or a pair"):
        cross_validate(build, np.zeros((9, 8, 8, 1)), verbose=False)
