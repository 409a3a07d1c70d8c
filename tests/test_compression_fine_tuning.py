"""The fine-tuning of a step trains what Keras would train on the same rows."""

import keras
import numpy as np
import pytest
from keras import layers

import masslib
from masslib import Cluster, Distill, Prune, QuantizeAware
from masslib.data import from_arrays

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
ROWS = 96
X = {"words": RNG.integers(1, 20, (ROWS, 6)), "age": RNG.random((ROWS, 1), "float32")}
Y = {"kind": RNG.integers(0, 3, ROWS), "time": RNG.random((ROWS, 1), "float32")}
WEIGHTS = {"kind": RNG.random(ROWS, "float32"), "time": (RNG.random(ROWS) > 0.5).astype("float32")}


def _model():
    """Of two inputs and outputs, with a frozen layer of zeros by half, which is pruned without any effect."""
    keras.utils.set_random_seed(0)
    words, age = keras.Input((6,), dtype="int32", name="words"), keras.Input((1,), name="age")
    x = layers.Embedding(20, 8)(words)
    x = layers.Conv1D(8, 3, padding="same", activation="relu", activity_regularizer="l2")(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x)])
    x = layers.Concatenate()([layers.Flatten()(layers.LayerNormalization()(x)), age])
    frozen = layers.Dense(8, name="frozen", trainable=False)
    x = frozen(x)
    frozen.kernel.assign(
        np.where(np.random.default_rng(1).permutation(frozen.kernel.shape[0] * 8).reshape(-1, 8) % 2, frozen.kernel, 0)
    )
    outputs = {"kind": layers.Dense(3, "softmax", name="kind")(x), "time": layers.Dense(1, name="time")(x)}
    model = keras.Model({"words": words, "age": age}, outputs)
    losses = {"kind": "sparse_categorical_crossentropy", "time": "mse"}
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), losses, loss_weights={"kind": 1.0, "time": 3.0})
    return model


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_it_trains_as_keras_does(weights):
    data = from_arrays(X, Y, sample_weight=weights)
    model = _model()
    small = masslib.compress(model, Prune({"frozen": 0.5}), data, batch_size=32, seed=0, verbose=False)
    for batch in data.batches(32, seed=0, epochs=1):
        model.train_on_batch(*batch)
    for ours, theirs in zip(small.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def _student():
    keras.utils.set_random_seed(1)
    words, age = keras.Input((6,), dtype="int32", name="words"), keras.Input((1,), name="age")
    x = layers.Concatenate()([layers.Flatten()(layers.Embedding(20, 2)(words)), age])
    outputs = {"kind": layers.Dense(3, "softmax", name="kind")(x), "time": layers.Dense(1, name="time")(x)}
    return keras.Model({"words": words, "age": age}, outputs)


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([Prune(0.5, min_share=0), QuantizeAware()], marks=pytest.mark.exhaustive),
        [Distill(_student, alpha=0.5)],
    ],
    ids=["pruned and aware", "distilled"],
)
def test_rows_of_no_weight_do_not_count(steps):
    half = {name: (np.arange(ROWS) < ROWS // 2).astype("float32") for name in Y}
    wrong = {
        "kind": np.where(half["kind"] > 0, Y["kind"], 0),
        "time": np.where(half["time"][:, None] > 0, Y["time"], 99),
    }
    found = [
        masslib.compress(_model(), steps, from_arrays(X, y, sample_weight=half), batch_size=32, verbose=False)
        for y in (Y, wrong)
    ]
    for ours, theirs in zip(*(small.model.get_weights() for small in found), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("step", [Cluster(8, min_share=0), QuantizeAware()], ids=["cluster", "aware"])
def test_a_layer_keeps_its_activity_regularizer(step):
    """TFMOT's wrappers never compute one."""

    def largest(strength):
        keras.utils.set_random_seed(0)
        wide = layers.Dense(8, activity_regularizer=keras.regularizers.L2(strength), name="wide")
        model = keras.Sequential([keras.Input((1,)), wide, layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        small = masslib.compress(model, step, (X["age"], Y["time"]), batch_size=8, verbose=False)
        kernels = [weight for weight in small.model.get_weights() if np.shape(weight) == (1, 8)]
        return np.abs(kernels[0]).max()

    assert largest(1.0) < 0.8 * largest(0.0)
