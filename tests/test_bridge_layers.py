"""Families of layers: each goes to tf_keras and back, and its twin can be copied as TFMOT copies it."""

import keras
import numpy as np
import pytest
import tf_keras
from keras import layers, ops

from masslib import bridge
from masslib.bridge.equality import check_answers
from masslib.graph.nodes import functional, named_layers
from masslib.graph.weights import set_weights


def _sequential(shape, *parts, dtype="float32"):
    return keras.Sequential([keras.Input(shape, dtype=dtype), *parts])


def _text():
    words = keras.Input((10,), dtype="int32", name="words")
    x = layers.Embedding(50, 8, mask_zero=True)(words)
    forward = layers.LSTM(6, dropout=0.2, recurrent_activation="hard_sigmoid")(x)
    both = layers.Bidirectional(layers.GRU(5, return_sequences=True, reset_after=False), merge_mode="sum")(x)
    both = layers.GlobalAveragePooling1D()(both)
    return keras.Model(words, layers.Dense(2)(layers.Concatenate()([forward, both])), name="text")


def _encoder_and_decoder():
    source, target = keras.Input((5, 3)), keras.Input((7, 3))
    _, h, c = layers.LSTM(4, return_state=True)(source)
    decoded = layers.LSTM(4, return_sequences=True)(target, initial_state=[h, c])
    mixed = layers.Attention(use_scale=True)([decoded, decoded])
    cells = layers.RNN([layers.LSTMCell(3), layers.GRUCell(4)])(mixed)
    one_way = layers.Bidirectional(layers.GRU(3), backward_layer=layers.SimpleRNN(3, go_backwards=True))(mixed)
    return keras.Model([source, target], [layers.TimeDistributed(layers.Dense(2))(mixed), cells, one_way])


def _transformer():
    words = keras.Input((10,), dtype="int32", name="words")
    x = layers.Embedding(50, 8, mask_zero=True)(words) + layers.Embedding(10, 8)(ops.arange(10))
    mixed = layers.MultiHeadAttention(2, 4, dropout=0.1)(x, x, use_causal_mask=True)
    x = layers.LayerNormalization(epsilon=1e-5)(mixed + x)
    x = layers.GroupQueryAttention(4, 4, 2)(x, x)
    x = layers.RMSNormalization()(layers.Dense(8, activation="gelu")(x))
    return keras.Model(words, layers.Dense(2)(layers.GlobalMaxPooling1D()(x)), name="transformer")


def _table():
    columns, category = keras.Input((4,), name="columns"), keras.Input((1,), dtype="int32", name="category")
    adapted = layers.Normalization()
    adapted.adapt(np.random.default_rng(0).normal(3, 2, (100, 4)).astype("float32"))
    parts = [
        adapted(columns),
        layers.Normalization(mean=3.0, variance=2.0)(columns),
        layers.CategoryEncoding(5, "one_hot")(category),
        layers.Flatten()(layers.Embedding(5, 2)(category)),
        layers.CategoryEncoding(4, "multi_hot")(layers.Discretization([0.2, 0.5, 0.8])(columns)),
        layers.IntegerLookup(vocabulary=[1, 2, 4])(category),
    ]
    parts[-1] = layers.Rescaling(0.5, offset=-1)(parts[-1])
    return keras.Model(
        {"columns": columns, "category": category}, {"out": layers.Dense(2)(layers.Concatenate()(parts))}
    )


def _operations():
    image = keras.Input((4, 6), name="image")
    x = ops.reshape(image, (-1, 24))[:, 2:8] * 2.0 + 1
    x = ops.relu(x) + ops.concatenate([x[..., :3], ops.tanh(x)[:, 3:]], axis=-1)
    gate = ops.expand_dims(x, 1) * ops.mean(image, axis=-1, keepdims=True)
    a, b = ops.split(gate, 2, axis=-1)
    return keras.Model(image, [a - b, 1 - a, ops.einsum("bij,bkj->bik", a, b), a**2, ops.softmax(-b)])


def _sequence():
    return _sequential(
        *((6, 8), layers.Conv1D(4, 3, dilation_rate=2, padding="causal"), layers.SeparableConv1D(4, 3), layers.PReLU()),
        *(layers.SpectralNormalization(layers.Dense(4)), layers.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d")),
        *(layers.GroupNormalization(5), layers.UnitNormalization(), layers.MaxPooling1D()),
        *(layers.Dense(4, activation=layers.LeakyReLU(0.1)), layers.Activation("glu"), layers.ELU(0.5)),
    )


def _augmented_image():
    return _sequential(
        *((8, 8, 3), layers.RandomFlip(), layers.RandomRotation(0.1), layers.RandomTranslation(0.1, 0.1)),
        *(layers.Resizing(9, 7, pad_to_aspect_ratio=True), layers.CenterCrop(6, 6), layers.GaussianNoise(0.1)),
        *(layers.UpSampling2D(interpolation="bilinear"), layers.Conv2D(6, 3, dilation_rate=2, groups=3)),
        *(layers.AdaptiveAveragePooling2D(2), layers.Reshape((2, 2, 2, 3)), layers.Conv3D(2, 2), layers.Flatten()),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [_text, _encoder_and_decoder, _transformer, _table, _operations, _sequence, _augmented_image],
    ids=lambda build: build.__name__.strip("_"),
)
def test_there_and_back_and_copied(build):
    model = build()
    rng = np.random.default_rng(7)
    for layer in named_layers(model).values():
        if layer.weights and "int" not in layer.weights[-1].dtype:
            set_weights(layer, [rng.uniform(0.1, 0.6, weight.shape) for weight in layer.weights])
    twin = bridge.to_tf_keras(model)
    back = bridge.from_tf_keras(twin, like=model)
    for a, b in zip(back.get_weights(), model.get_weights(), strict=True):
        assert (a == b).all()
    # TFMOT copies in the first way, `Compressed.load` in the second.
    for copy in (tf_keras.models.clone_model(twin), tf_keras.models.model_from_json(twin.to_json())):
        copy.set_weights(twin.get_weights())
        check_answers(functional(model), copy)


def test_layers_that_stand_for_text_or_for_a_state_are_refused_with_the_reason():
    words = keras.Input((1,), dtype="string", name="words")
    number = layers.StringLookup(vocabulary=["a"], name="lookup")(words)
    rows = keras.Input(batch_shape=(3, 4, 2), name="rows")
    state = layers.LSTM(3, stateful=True, name="state")(rows)
    with pytest.raises(ValueError, match=r"3 layer\(s\) of") as caught:
        bridge.to_tf_keras(keras.Model([words, rows], [number, state]))
    text = str(caught.value)
    assert "  words: InputLayer: only dense inputs of numbers can cross" in text
    assert "  lookup: StringLookup: it works on text" in text
    assert "  state: LSTM: stateful=True: what it remembers between batches cannot cross" in text


def test_a_quantized_layer_is_refused_with_the_reason():
    model = _sequential((4,), layers.Dense(3, name="small"))
    model.layers[0].quantize("int8")
    with pytest.raises(ValueError, match="small: Dense: its weights are quantized already; start from the float model"):
        bridge.to_tf_keras(model)


@pytest.mark.slow
def test_training_is_left_to_the_model():
    """Keras 3 notes the default of a layer in its graph; tf_keras would obey it, and never drop out or augment."""
    model = _sequential((200, 3), layers.GaussianNoise(1.0), layers.GRU(4, return_sequences=True, dropout=0.5))
    twin = bridge.to_tf_keras(model)
    x = np.ones((1, 200, 3), "float32")
    assert np.abs(twin(x, training=True) - twin(x, training=True)).max() > 0
    assert np.abs(twin(x, training=False) - twin(x, training=False)).max() == 0
