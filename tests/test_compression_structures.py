"""Recipes for networks with several inputs and outputs."""

import keras
import numpy as np
import pytest
from keras import layers

import masslib
from masslib import Cluster, Distill, LowRank, Prune, PruneChannels, Quantize, QuantizeAware, bridge
from masslib.compression.finetune import Tuner
from masslib.compression.step import Training
from masslib.data.passed import as_subset

pytestmark = pytest.mark.slow

ROWS = 96
RNG = np.random.default_rng(0)
X = {
    "age": RNG.random(ROWS, "float32"),
    "photo": RNG.random((ROWS, 8, 8, 1), "float32"),
    "words": RNG.integers(0, 20, (ROWS, 4)),
}
Y = {"click": RNG.integers(0, 2, ROWS), "kind": RNG.integers(0, 3, ROWS), "time": RNG.random(ROWS, "float32")}
LOSSES = {"click": "binary_crossentropy", "kind": "sparse_categorical_crossentropy", "time": "mse"}


def _model(structure=dict, units=32, names=("kind", "click", "time"), compiled=True):
    """Inputs and outputs in another order than that of their names."""
    keras.utils.set_random_seed(0)
    age = keras.Input((1,), name="age")
    words = keras.Input((4,), dtype="int32", name="words")
    photo = keras.Input((8, 8, 1), name="photo")
    text = layers.GlobalAveragePooling1D()(layers.Embedding(20, 8, name="embedding")(words))
    image = layers.Flatten()(layers.Conv2D(4, 3, activation="relu", name="conv")(photo))
    x = layers.Dense(units, "relu", name="deep")(layers.Concatenate()([age, text, image]))
    ends = [(3, "softmax"), (1, "sigmoid"), (1, None)]
    outputs = [layers.Dense(n, act, name=name)(x) for name, (n, act) in zip(names, ends, strict=True)]
    ends = [{"photo": photo, "age": age, "words": words}, dict(zip(names, outputs, strict=True))]
    model = keras.Model(*(structure(part.values()) if structure is list else part for part in ends))
    if compiled:
        weights = {"click": 1.0, "kind": 0.5, "time": 2.0}
        model.compile(keras.optimizers.SGD(0.1), LOSSES, loss_weights=weights, metrics={"click": ["accuracy"]})
    return model


@pytest.mark.parametrize("structure", [dict, list])
def test_a_twin_trains_as_keras_does(structure):
    model, data = _model(structure), as_subset((X, Y))
    twin = bridge.to_tf_keras(model)
    Tuner(model, data, batch_size=32, seed=0, verbose=False).fit(twin, Training())
    found = bridge.from_tf_keras(twin, like=model).get_weights()
    masslib.fit(model, data, batch_size=32, seed=0, verbose=0)
    for ours, theirs in zip(found, model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


RECIPES = {
    "prune": [Prune(0.5, min_share=0)],
    "taylor": [Prune(0.5, min_share=0, importance="taylor", scope="global")],
    "cluster": [Cluster(8, min_share=0)],
    "rebuilt": [PruneChannels(0.5), LowRank(2, min_share=0)],
    "aware": [QuantizeAware()],
    "int8": [Quantize("int8", calibration_rows=32)],
}


@pytest.mark.parametrize(
    "recipe", [pytest.param(it, marks=pytest.mark.exhaustive) if it in ("taylor", "cluster") else it for it in RECIPES]
)
def test_every_step_takes_structures(recipe, tmp_path):
    model = _model()
    small = masslib.compress(model, RECIPES[recipe], (X, Y), batch_size=48, verbose=False)
    answers = small.model({**X, "age": X["age"][:, None]})
    assert {name: tuple(found.shape) for name, found in dict(answers).items()} == {
        "click": (ROWS, 1),
        "kind": (ROWS, 3),
        "time": (ROWS, 1),
    }
    small.save(tmp_path / "small")
    again = masslib.Compressed.load(tmp_path / "small")
    for name in X if recipe == "int8" else ():
        np.testing.assert_array_equal(again.calibration[name], small.calibration[name])


def test_a_student_may_name_its_outputs_otherwise():
    model = _model()
    student = _model(units=8, names=("b", "a", "c"), compiled=False)
    before = student.get_weights()
    small = masslib.compress(model, [Distill(student, alpha=0.5), Prune(0.5, min_share=0)], (X, Y), verbose=False)
    assert small.model.count_params() < model.count_params()
    assert not all(map(np.array_equal, before, small.model.get_weights()))
    assert all(map(np.array_equal, before, student.get_weights()))


@pytest.mark.parametrize(
    ("x", "told"),
    [
        ({"age": X["age"], "words": X["words"]}, "got age, words; expected .*photo"),
        ({**X, "photo": np.zeros((ROWS, 4, 4, 1))}, r"shape \(4, 4, 1\) for the input 'photo'.*\(8, 8, 1\)"),
        ([X["age"]], "got 1; expected 3"),
    ],
)
def test_other_inputs_are_refused(x, told):
    with pytest.raises(ValueError, match=told):
        masslib.compress(_model(), Prune(0.5), (x, Y), verbose=False)
