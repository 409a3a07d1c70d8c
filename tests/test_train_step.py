"""The steps of `fit` are those of `model.fit`, whatever was set on optimizer, loss and metrics."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, optimizers

from masslib import fit
from masslib.train import step

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(50, 6)).astype("float32")
CLASSES = RNG.integers(0, 3, 50)
WEIGHTS = RNG.random(50, "float32")


def _data(weights=False):
    parts = (ROWS, CLASSES, WEIGHTS) if weights else (ROWS, CLASSES)
    return tf.data.Dataset.from_tensor_slices(parts).batch(8)


def _model(optimizer="sgd", *, build=keras.Model, **settings):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, activation="relu", kernel_regularizer="l2", bias_constraint="non_neg")(inputs)
    model = build(
        inputs, layers.Dense(3, activation="softmax", name="head")(layers.Dropout(0.2, name="dropout")(hidden))
    )
    model.compile(optimizer, **{"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]} | settings)
    return model


def _trained(train, make, data=None, **settings):
    model = make()
    history = train(model, data or _data(), epochs=2, shuffle=False, verbose=0, **settings).history
    return {name: np.asarray(values) for name, values in history.items()} | {
        f"{number} {variable.path}": variable.numpy()
        for number, variable in enumerate([*model.weights, *model.optimizer.variables])
    }


def _equal(ours, theirs, **tolerance):
    assert len(ours) == len(theirs)
    for (name, mine), other in zip(ours.items(), theirs.values(), strict=True):
        np.testing.assert_allclose(mine, other, err_msg=name, **tolerance or {"rtol": 0, "atol": 0})


class NoConfig(optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.1 / (1.0 + tf.cast(step, "float32"))


class Halving(optimizers.SGD):
    def apply_gradients(self, grads_and_vars):
        return super().apply_gradients([(grad / 2, variable) for grad, variable in grads_and_vars])


class Centered(optimizers.SGD):
    def apply(self, grads, trainable_variables=None):
        super().apply([grad - keras.ops.mean(grad) for grad in grads], trainable_variables)


class _Loss(keras.losses.Loss):  # without a get_config
    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def call(self, y_true, y_pred):
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred) / self.temperature


def _assigned():
    model = _model(optimizers.Adam(0.1))
    model.optimizer.learning_rate = 0.01
    return model


def _without_decay_of_biases():
    optimizer = optimizers.AdamW(0.05, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return _model(optimizer)


def _trained_before():
    model = _model(optimizers.SGD(0.1, momentum=0.9))
    model.fit(_data(), shuffle=False, verbose=0)
    return model


def _frozen():
    model = _model("adam")
    model.get_layer("head").trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


MODELS = {
    "a rate set by assignment": _assigned,
    "a schedule and clipnorm": lambda: _model(
        optimizers.Adam(optimizers.schedules.ExponentialDecay(0.1, 5, 0.5), clipnorm=0.1)
    ),
    "a schedule without a config": lambda: _model(optimizers.SGD(NoConfig())),
    "a function as rate": lambda: _model(optimizers.SGD(lambda: 0.05)),
    "variables without weight decay": _without_decay_of_biases,
    "global_clipnorm": lambda: _model(optimizers.Adam(0.05, global_clipnorm=0.1)),
    "averages": lambda: _model(optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=4)),
    "gradient_accumulation_steps": lambda: _model(optimizers.Adam(0.05, gradient_accumulation_steps=2)),
    "a scaled loss": lambda: _model(optimizers.LossScaleOptimizer(optimizers.SGD(0.1, momentum=0.9), 8.0, 2)),
    "an optimizer that has worked": _trained_before,
    "apply_gradients of one's own": lambda: _model(Halving(0.1)),
    "apply of one's own": lambda: _model(Centered(0.1)),
    "a loss without a config": lambda: _model(loss=_Loss(2.0)),
    "a frozen layer": _frozen,
    "XLA": lambda: _model(jit_compile=True),
    "three steps in an execution": lambda: _model(steps_per_execution=3),
}


@functools.cache
def _by_keras(name):
    return _trained(keras.Model.fit, MODELS[name])


QUICK = ("a schedule and clipnorm", "averages", "apply_gradients of one's own")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in MODELS]
)
def test_what_lives_on_the_optimizer_is_used_as_keras_uses_it(name):
    _equal(_trained(fit, MODELS[name], fused=False), _by_keras(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name != "XLA"])
def test_so_it_is_where_the_update_is_compiled(name, monkeypatch):
    monkeypatch.setattr(step, "_COMPILED_WEIGHTS", 0)
    _equal(_trained(fit, MODELS[name]), _by_keras(name), rtol=1e-4, atol=1e-6)


def test_metrics_with_weights_and_settings_are_those_of_keras():
    def make():
        metric = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top")
        return _model(metrics=[metric], weighted_metrics=["accuracy"])

    data = _data(weights=True)
    _equal(_trained(fit, make, data, fused=False), _trained(keras.Model.fit, make, data))


class Reading(keras.Model):
    """Reads and writes what its optimizer has, in a train_step of its own."""

    def train_step(self, data):
        assert isinstance(self.optimizer, optimizers.SGD)
        rate = 0.1 / (1.0 + tf.cast(self.optimizer.iterations, "float32"))
        self.optimizer.learning_rate.assign(rate)
        return super().train_step(data) | {"rate": self.optimizer.learning_rate + 0.0}


@pytest.mark.parametrize("settings", [{"fused": False}, {"accumulate": 2}], ids=str)
def test_a_train_step_may_use_the_optimizer_as_it_is(settings):
    def make():
        model = _model(optimizers.SGD(0.1), build=Reading)
        model.get_layer("dropout").rate = 0.0
        return model

    data = tf.data.Dataset.from_tensor_slices((ROWS, CLASSES)).batch(10)
    expected = _trained(keras.Model.fit, make, data)
    assert len(set(expected["rate"])) == 2
    _equal(_trained(fit, make, data, **settings), expected, rtol=1e-5, atol=1e-6)


class Failing(keras.Model):
    def train_step(self, data):
        super().train_step(data)
        raise KeyError("as planned")


@pytest.mark.parametrize("eager", [False, True])
def test_after_an_error_the_optimizer_is_as_before(eager):
    model = _model("adam", build=Failing, run_eagerly=eager)
    optimizer = model.optimizer
    with pytest.raises(KeyError, match="as planned"):
        fit(model, _data(), accumulate=2, verbose=0)
    assert model.optimizer is optimizer
    assert "apply" not in vars(optimizer)
    assert "call" not in vars(model)


class Noisy(layers.Layer):
    """Draws numbers in both ways: those of Keras, and those of TensorFlow without a seed."""

    def call(self, inputs, training=False):
        if not training:
            return inputs
        return inputs + tf.random.normal(tf.shape(inputs)) + keras.random.normal(keras.ops.shape(inputs))


@pytest.mark.parametrize("known", [True, False])
def test_random_numbers_are_those_of_keras(known):
    """A graph with two copies of the step would begin the numbers of tf.random twice."""

    def make():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((6,)), Noisy(), layers.Dense(3, "softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model

    data = _data() if known else _data().filter(lambda x, y: True)
    _equal(_trained(fit, make, data, fused=False), _trained(keras.Model.fit, make, _data()))


def test_a_variable_without_a_gradient_is_warned_of_as_in_keras(monkeypatch):
    monkeypatch.setattr(step, "_COMPILED_WEIGHTS", 0)
    inputs = keras.Input((6,))
    used, unused = layers.Dense(3)(inputs), layers.Dense(3, name="unused")(inputs)
    model = keras.Model(inputs, [used, unused])
    model.compile("sgd", ["mse", None])
    data = tf.data.Dataset.from_tensor_slices((ROWS, RNG.random((50, 3), "float32"))).batch(10)
    with pytest.warns(UserWarning, match="Gradients do not exist for variables"):
        fit(model, data.map(lambda x, y: (x, (y, y))), verbose=0)
