"""Weights that are made at the first batch are made, and trained as Keras trains them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from masslib import fit, strategy
from masslib.train import step

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(48, 6)).astype("float32")
CLASSES = RNG.integers(0, 3, 48)


class Net(keras.Model):
    def __init__(self, activation="relu"):
        super().__init__()
        self.first, self.last = layers.Dense(8, activation=activation), layers.Dense(3, activation="softmax")

    def call(self, rows):
        return self.last(self.first(rows))


class Head(Net):
    """Has a layer that only training uses."""

    def __init__(self):
        super().__init__()
        self.head = layers.Dense(2)

    def train_step(self, data):
        rows, classes = data
        with tf.GradientTape() as tape:
            found = self.first(rows)
            errors = keras.losses.sparse_categorical_crossentropy(classes, self.last(found))
            loss = keras.ops.mean(errors) + 0.1 * keras.ops.mean(keras.ops.square(self.head(found)))
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"own": loss}


class Adversaries(keras.Model):
    """Two networks and two optimizers, of which the model itself uses none."""

    def __init__(self, *, built):
        super().__init__()
        inputs = [[keras.Input((size,))] if built else [] for size in (6, 4)]
        self.judge = keras.Sequential([*inputs[0], layers.Dense(400, activation="relu"), layers.Dense(1)])
        self.maker = keras.Sequential([*inputs[1], layers.Dense(400, activation="relu"), layers.Dense(6)])
        self.seeds = keras.random.SeedGenerator(1)

    def compile(self, optimizer=None):
        super().compile(optimizer)
        self.optimizers = [keras.optimizers.Adam(0.01), keras.optimizers.Adam(0.01)]

    def train_step(self, data):
        rows, losses = data[0], []
        count = tf.shape(rows)[0]
        noise = keras.random.normal((count, 4), seed=self.seeds) + tf.random.normal((count, 4))
        for network, optimizer, sign in zip((self.judge, self.maker), self.optimizers, (1.0, -1.0), strict=True):
            with tf.GradientTape() as tape:
                answers = self.judge(self.maker(noise)) - self.judge(rows)
                loss = sign * tf.reduce_mean(tf.tanh(answers))
            weights = network.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            losses.append(loss)
        return {"judge": losses[0], "maker": losses[1]}


class Sampling(keras.Model):
    """Draws numbers at every call, so to call it once more than Keras does would change them."""

    def __init__(self):
        super().__init__()
        self.seeds, self.last = keras.random.SeedGenerator(1), layers.Dense(3, activation="softmax")

    def call(self, rows):
        return self.last(rows + keras.random.normal(keras.ops.shape(rows), seed=self.seeds))


def _sequential():
    return keras.Sequential([keras.Input((6,)), layers.Dense(8, activation=layers.PReLU()), layers.Dense(3, "softmax")])


def _said_to_be_built(make):
    model = make()
    with pytest.warns(UserWarning, match="does not have a `build"):
        model.build((None, 6))
    assert model.built
    return model


MAKERS = {
    "never called": Net,
    "said to be built": lambda: _said_to_be_built(Net),
    "an activation that is a layer": lambda: Net(layers.PReLU()),
    "such an activation in a Sequential": _sequential,
    "a head for training": Head,
    "a head for training, said to be built": lambda: _said_to_be_built(Head),
    "two networks": lambda: Adversaries(built=False),
    "two built networks": lambda: Adversaries(built=True),
    "random numbers in every call": Sampling,
}


def _trained(train, make, **settings):
    keras.utils.set_random_seed(0)
    model = make()
    if isinstance(model, Adversaries):
        model.compile()
    else:
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    data = tf.data.Dataset.from_tensor_slices((ROWS, CLASSES)).batch(16)
    history = train(model, data, epochs=2, shuffle=False, verbose=0, **settings).history
    return list(history.values()), [variable.numpy() for variable in model.variables]


SLOW = ("an activation that is a layer", "a head for training, said to be built", "two networks")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in MAKERS]
)
def test_late_weights_are_trained_as_keras_trains_them(name):
    (history, weights), (expected, keras_weights) = (
        _trained(fit, MAKERS[name], fused=False),
        _trained(keras.Model.fit, MAKERS[name]),
    )
    np.testing.assert_array_equal(history, expected)
    assert len(weights) == len(keras_weights)
    for mine, other in zip(weights, keras_weights, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["said to be built", "such an activation in a Sequential", "a head for training"])
def test_so_they_are_in_parts_and_with_checkpoints(name, tmp_path):
    expected, keras_weights = _trained(keras.Model.fit, MAKERS[name])
    for settings in ({"accumulate": 2}, {"checkpoint": tmp_path, "save_every": 2}):
        history, weights = _trained(fit, MAKERS[name], **settings)
        if name != "a head for training":  # whose logs are those of the last part
            np.testing.assert_allclose(history, expected, rtol=1e-5)
        for mine, other in zip(weights, keras_weights, strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-6)


def test_a_model_that_runs_eagerly_makes_them_in_its_first_step():
    keras.utils.set_random_seed(0)
    model = Net(layers.PReLU())
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy", run_eagerly=True)
    history = fit(model, ROWS, CLASSES, batch_size=16, epochs=2, shuffle=False, verbose=0).history
    expected, _ = _trained(keras.Model.fit, MAKERS["an activation that is a layer"])
    np.testing.assert_allclose(history["loss"], expected[0], rtol=1e-5)


@pytest.mark.parametrize("name", ["said to be built", "such an activation in a Sequential"])
def test_replicas_make_them_before_the_first_batch(name):
    expected, _ = _trained(keras.Model.fit, MAKERS[name])
    with strategy("mirrored", devices=2).scope():
        keras.utils.set_random_seed(0)
        model = MAKERS[name]()
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    data = tf.data.Dataset.from_tensor_slices((ROWS, CLASSES)).batch(16)
    np.testing.assert_allclose(fit(model, data, epochs=2, verbose=0).history["loss"], expected[0], rtol=1e-5)


def test_replicas_say_that_other_optimizers_have_to_be_built_first():
    with strategy("mirrored", devices=2).scope():
        model = Adversaries(built=True)
        model.compile()
    data = tf.data.Dataset.from_tensor_slices((ROWS, CLASSES)).batch(16)
    with pytest.raises(
        ValueError, match=r"optimizers .* have no variables yet.*optimizer.build\(variables\) in the scope"
    ):
        fit(model, data, verbose=0)


def test_two_large_networks_are_trained_as_keras_trains_them(monkeypatch):
    """Their update would be compiled, were it that of the optimizer the model was compiled with."""
    monkeypatch.setattr(step, "_COMPILED_WEIGHTS", 0)
    history, weights = _trained(fit, MAKERS["two networks"])
    expected, keras_weights = _trained(keras.Model.fit, MAKERS["two networks"])
    np.testing.assert_allclose(history, expected, rtol=1e-5)
    for mine, other in zip(weights, keras_weights, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-6)
