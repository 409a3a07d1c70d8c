"""A new version takes the place of the one before only where it is not worse, on old and on new data."""

import json

import keras
import numpy as np
import pytest

import masslib
from masslib.data import Splits, from_arrays
from masslib.packaging import Refused, Replaces, package

RNG = np.random.default_rng(0)


def rows(n, shift):
    """Two classes of points; with the shift they lie elsewhere."""
    y = np.arange(n) % 2
    x = RNG.normal(size=(n, 2)).astype("float32") + np.stack([2.0 * y - 1, shift * (1 - 2 * y)], 1).astype("float32")
    return x, y


OLD, NEW = rows(800, 0), rows(800, 3)
SPLITS = Splits(from_arrays(*NEW), from_arrays(*NEW), from_arrays(*NEW), classes=("no", "yes"))


def model_of(weights):
    """The linear model whose second logit is `x @ weights`."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False, activation="softmax")])
    model.set_weights([np.stack([np.zeros(2), weights], 1)])
    model.compile(loss="sparse_categorical_crossentropy")
    return model


def write(weights, folder, **options):
    return package(model_of(weights), folder, SPLITS, formats=["keras"], verbose=False, **options)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return write((1.0, 0.0), tmp_path_factory.mktemp("gate") / "model" / "1")


def test_a_version_that_forgot_the_old_data_is_refused_and_leaves_nothing(first, tmp_path):
    forgetful = (0.0, -1.0)  # right on the new rows, a guess on the old ones
    with pytest.raises(Refused, match="is worse than .*keras on 'January'") as error:
        write(forgetful, tmp_path / "2", replaces=Replaces(first, on={"January": OLD}))
    assert "on 'test'" not in str(error.value) and not list(tmp_path.iterdir())
    # Nobody asked about the old rows here, and on the new ones it is better.
    gains = json.loads((write(forgetful, tmp_path / "2", replaces=first) / "manifest.json").read_text())["replaces"]
    assert [it["on"] for it in gains["gains"]] == ["test"] and all(it["low"] > 0 for it in gains["gains"])
    assert gains["name"] == "model" and len(gains["manifest_sha256"]) == 64
    masslib.verify(tmp_path / "2")


@pytest.mark.slow
def test_files_of_other_formats_are_compared_with_the_first(first, tmp_path):
    new = model_of((1.0, 0.0))
    folder = package(new, tmp_path / "2", SPLITS, formats=["packed"], replaces=first, verbose=False)
    told = json.loads((folder / "manifest.json").read_text())["replaces"]["gains"]
    assert [(it["file"], it["against"], it["gain"]) for it in told] == [("packed", "keras", 0.0)]


def test_a_version_that_is_better_on_both_passes_and_may_replace_in_place(first, tmp_path):
    folder = write((1.0, 0.0), tmp_path / "2")
    write((1.0, -0.3), folder, replaces=Replaces(folder, on={"January": OLD}))
    assert keras.models.load_model(folder / "model.keras", compile=False).get_weights()[0][1, 1] == np.float32(-0.3)
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(Refused, match="is worse than"):
        write((-1.0, 0.0), folder, replaces=folder)
    assert (folder / "manifest.json").read_bytes() == before


@pytest.mark.slow
def test_with_a_margin_doubt_is_enough_to_refuse(first, tmp_path):
    few = OLD[0][:12], OLD[1][:12]
    again = Replaces(first, on={"few": few}, margin=0.01)
    with pytest.raises(Refused, match="not shown to be within 0.01 .*on 'few'"):
        write((1.0, 0.0), tmp_path / "2", replaces=again)
    write((1.0, 0.0), tmp_path / "2", replaces=Replaces(first, on={"few": few}))
    write((1.0, 0.0), tmp_path / "3", replaces=Replaces(first, on={"January": OLD}, margin=0.02))


def test_where_small_is_good_more_is_worse(tmp_path):
    x = RNG.normal(size=(300, 2)).astype("float32")
    part = from_arrays(x, x @ np.array([1.0, 2.0], "float32"))
    splits = Splits(part, part, part, classes=None)

    def version(weights, folder, **options):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
        model.set_weights([np.array(weights)[:, None]])
        model.compile(loss="mse")
        return package(model, folder, splits, formats=["keras"], verbose=False, **options)

    before = version((1.0, 1.5), tmp_path / "1")
    with pytest.raises(Refused, match="mae better by -"):
        version((1.0, 1.0), tmp_path / "2", replaces=before)
    version((1.0, 1.9), tmp_path / "2", replaces=Replaces(before, figure="rmse", margin=0.0))


@pytest.mark.parametrize("wrong", [{"margin": -1}, {"margin": np.nan}, {"on": {"test": OLD}}, {"on": [OLD]}])
def test_gates_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="margin=|on="):
        Replaces("build/1", **wrong)


def test_a_folder_that_is_no_package_or_was_changed_is_refused(first, tmp_path):
    with pytest.raises(ValueError, match="holds no whole manifest"):
        write((1.0, 0.0), tmp_path / "2", replaces=tmp_path / "nothing")
    assert not list(tmp_path.iterdir())
