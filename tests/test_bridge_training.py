"""A twin trains as Keras trains the model: what a config does not hold is carried, or refused."""

import keras
import numpy as np
import pytest
from keras import layers

from masslib import bridge


class Penalized(layers.Layer):
    """A layer of the user's own with losses of its own."""

    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], initializer="ones", regularizer="l2")

    def call(self, x):
        self.add_loss(keras.ops.mean(x**2))
        return x * self.scale


class Constrained(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], initializer="ones", constraint="non_neg")

    def call(self, x):
        return x * self.scale


def _model(*inner) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4, name="first"), *inner, layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def _twin(model):
    twin = bridge.to_tf_keras(model)
    bridge.compile_like(twin, model)
    return twin


def _largest_difference(model) -> float:
    """Train both for four batches, and return how far their losses are from each other."""
    twin, differences = _twin(model), []
    x, y = np.random.default_rng(0).random((4, 16, 6), "float32"), np.zeros((16, 2), "float32")
    for batch in x:
        theirs = twin.train_on_batch(batch, y)
        model.reset_metrics()
        differences.append(abs(float(model.train_on_batch(batch, y)) - float(theirs)))
    return max(differences)


@pytest.mark.parametrize(
    "make",
    [
        lambda: [layers.Dense(4, activation="relu", activity_regularizer="l2")],
        lambda: [layers.ReLU(activity_regularizer="l2")],
        lambda: [layers.ActivityRegularization(0.1, 0.1)],
        lambda: [layers.Dense(4, kernel_regularizer="l1", kernel_constraint="unit_norm")],
        lambda: [layers.RMSNormalization()],
        lambda: [Penalized()],
        lambda: [layers.Dense(4, activation=layers.PReLU())],
        lambda: [layers.Dense(4, activation=layers.LeakyReLU(0.3))],
    ],
    ids=["dense", "relu", "activity", "constraint", "carried", "own losses", "prelu", "leaky"],
)
def test_losses_are_those_of_keras(make):
    assert _largest_difference(_model(*make())) < 1e-6


def test_frozen_layers_stay_frozen_in_nested_models():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.BatchNormalization()], name="inner")
    inner.trainable = False
    inner.layers[1].trainable = True
    model = _model(inner)
    assert _largest_difference(model) < 1e-6
    back = bridge.from_tf_keras(_twin(model), like=model)
    copy = back.get_layer("inner")
    assert [copy.trainable, *(layer.trainable for layer in copy.layers)] == [False, False, True]


def test_an_optimizer_assigned_later_counts():
    model = _model()
    model.optimizer = keras.optimizers.Adam(0.1)
    model.optimizer.learning_rate = 0.25
    assert float(_twin(model).optimizer.learning_rate) == 0.25


def _frozen_kernel():
    model = _model()
    model.get_layer("first").kernel.trainable = False
    return model


def _with_lora():
    model = _model()
    model.get_layer("first").enable_lora(2)
    return model


def _excluded():
    model = _model()
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(optimizer, "mse")
    return model


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_frozen_kernel, "layer 'first' trains 1 of its 2 weights"),
        (_with_lora, "first: Dense: it has LoRA weights"),
        (_excluded, "exclude_from_weight_decay"),
        (lambda: _model(Constrained()), "has a constraint, which tf_keras would not apply"),
        (lambda: _model(layers.Dense(2, name="größe")), "größe: tf_keras takes names of Latin letters"),
    ],
    ids=["kernel", "lora", "decay", "constraint", "name"],
)
def test_what_cannot_cross_is_named(make, told):
    with pytest.raises(ValueError, match=told):
        _twin(make())


def test_names_of_inputs_and_models_may_be_any():
    row = keras.Input((4,), name="meine größe:0")
    model = keras.Model(row, layers.Dense(2)(row), name="mein modell")
    assert bridge.to_tf_keras(model).count_params() == 10
