"""Layers made of layers, seen as models of them."""

import keras
import numpy as np
import pytest
from keras import layers

from masslib import bridge
from masslib.graph.nodes import named_layers
from masslib.graph.unfolding import unfolded

# Keras itself warns of a GroupQueryAttention behind a mask.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*destroy the mask")]

WORDS = np.random.default_rng(0).integers(0, 4, (8, 12))  # a quarter is padding


class Block(layers.Layer):
    """A block of a transformer, as the examples of keras.io write one."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.attention = layers.MultiHeadAttention(2, 8, name="attention")
        self.norm = layers.LayerNormalization(name="norm")
        self.dropout = layers.Dropout(0.2, name="dropout")
        self.feed_forward = keras.Sequential([layers.Dense(32, "relu"), layers.Dense(16)], name="feed_forward")

    def call(self, x, training=None):
        x = self.norm(x + self.dropout(self.attention(x, x), training=training))
        return x + self.feed_forward(x)


def _model(*parts, mask_zero=False):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12,), dtype="int32")
    x = layers.Embedding(50, 16, mask_zero=mask_zero)(inputs)
    for part in parts:
        attends = isinstance(part, layers.MultiHeadAttention | layers.GroupQueryAttention)
        x = part(x, x) if attends else part(x)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


MODELS = {
    "attention": lambda: [layers.MultiHeadAttention(2, 8, dropout=0.1, name="it")],
    "groups": lambda: [layers.GroupQueryAttention(8, 4, 2, name="it")],
    "block": lambda: [Block(name="it")],
    "both ways": lambda: [layers.Bidirectional(layers.LSTM(5, return_sequences=True), name="it")],
    "one after the other": lambda: [Block(name="it"), layers.Bidirectional(layers.GRU(4, return_sequences=True))],
}


@pytest.mark.parametrize("mask_zero", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_a_view_has_the_same_answers_and_the_same_weights(name, mask_zero):
    model = _model(*MODELS[name](), mask_zero=mask_zero)
    view = unfolded(model)
    assert any(found.startswith("it/") for found in named_layers(view))
    assert {id(weight) for weight in view.weights} == {id(weight) for weight in model.weights}
    np.testing.assert_allclose(view(WORDS), model(WORDS), atol=1e-6)
    assert list(named_layers(unfolded(model))) == list(named_layers(view))  # whatever Keras has counted since


@pytest.mark.parametrize("mask_zero", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_they_cross_the_bridge_and_come_back(name, mask_zero):
    model = _model(*MODELS[name](), mask_zero=mask_zero)
    twin = bridge.to_tf_keras(model)
    np.testing.assert_allclose(twin(WORDS), model(WORDS), atol=1e-5)
    for layer in twin.layers:
        layer.set_weights([weight * 1.5 for weight in layer.get_weights()])
    again = bridge.from_tf_keras(twin, like=model)
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in model.layers]
    np.testing.assert_allclose(again(WORDS), twin(WORDS), atol=1e-4)


def test_a_flattened_sequence_keeps_its_length_behind_attention():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 8))
    x = inputs
    for attention in (
        layers.MultiHeadAttention(2, 4),
        layers.GroupQueryAttention(4, 4, 2),
        layers.MultiHeadAttention(2, 4),
    ):
        x = layers.Add()([attention(query=x, value=x), x])
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
    assert unfolded(model).output.shape == model.output.shape
    twin = bridge.to_tf_keras(model)
    rows = np.random.default_rng(0).random((4, 6, 8), "float32")
    np.testing.assert_allclose(twin(rows), model(rows), atol=1e-5)
    assert not [layer.name for layer in twin.layers if "reshape" in layer.name]  # which would part int8 layers


class Noisy(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(16)

    def call(self, x, training=None):
        return self.inner(x) + (keras.random.normal(keras.ops.shape(x)) if training else 0.0)


class Scaled(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(16)

    def build(self, shape):
        self.scale = self.add_weight(shape=(16,), initializer="ones")
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x) * self.scale


@pytest.mark.parametrize("kind", [Noisy, Scaled], ids=["other in training", "weights of its own"])
def test_what_cannot_be_seen_stays_whole(kind):
    model = _model(kind(name="it"))
    assert unfolded(model) is model
    assert "it" in [layer.name for layer in bridge.to_tf_keras(model).layers]
