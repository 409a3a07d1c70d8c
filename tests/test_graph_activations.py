"""Activations that are layers: they follow their layers, and steps rebuild the model exactly."""

import keras
import numpy as np
import pytest
from keras import layers

import masslib


def _model(activation, called: bool = True) -> keras.Model:
    keras.utils.set_random_seed(0)
    first = layers.Conv2D(8, 3, activation=activation, name="first")
    model = keras.Sequential(
        [keras.Input((6, 6, 3)), first, layers.Conv2D(4, 3, name="second"), layers.Flatten(), layers.Dense(2)]
    )
    if called:  # which makes the weights of a PReLU
        model(np.zeros((1, 6, 6, 3)))
        for variable in activation.variables:
            variable.assign(np.random.default_rng(1).uniform(0, 0.5, variable.shape))
    model.compile(keras.optimizers.SGD(1e-12), "mse")
    return model


def _compressed(model, step):
    x = np.random.default_rng(0).normal(size=(8, 6, 6, 3)).astype("float32")
    small = masslib.compress(model, step, (x, np.zeros((8, 2), "float32")), batch_size=8, verbose=False)
    return small, np.abs(np.asarray(small.model(x)) - np.asarray(model(x))).max()


@pytest.mark.parametrize("shared", [None, [1, 2]])
@pytest.mark.parametrize("called", [True, False])
def test_channels_that_are_zero_are_removed_exactly(shared, called):
    model = _model(layers.PReLU(shared_axes=shared), called)
    first = model.get_layer("first")
    first.kernel.assign(np.asarray(first.kernel) * (np.arange(8) % 4 > 0))
    small, difference = _compressed(model, masslib.PruneChannels({"first": 0.25}, max_steps=1))
    assert small.model.get_layer("first").filters == 6
    assert difference < 1e-6


def test_low_rank_is_exact_for_a_kernel_of_that_rank():
    model = _model(layers.PReLU())
    first = model.get_layer("first")
    left, right = np.random.default_rng(2).normal(size=(2, 27, 8))
    first.kernel.assign((left[:, :2] @ right[:2]).reshape(first.kernel.shape))
    _, difference = _compressed(model, masslib.LowRank({"first": 2}, max_steps=1))
    assert difference < 1e-4


def test_a_softmax_layer_needs_all_channels():
    with pytest.raises(ValueError, match="first: feeds 'first_activation', a Softmax that needs all channels"):
        _compressed(_model(layers.Softmax()), masslib.PruneChannels({"first": 0.25}, max_steps=1))
