"""Probes suit the model: sizes that pass through, whole numbers that a table has, answers that are numbers."""

import keras
import numpy as np
import pytest
import tf_keras
from keras import ops

from masslib.graph.probes import probe_inputs

L = keras.layers


class Words(L.Layer):
    """Two tables inside of a layer, as keras.io's examples have them; no config."""

    def __init__(self, words, length):
        super().__init__()
        self.words, self.places, self.length = L.Embedding(words, 4), L.Embedding(length, 4), length

    def call(self, x):
        return self.words(x) + self.places(ops.arange(self.length))


def _unet(halvings, channels=3):
    x = inputs = keras.Input((None, None, channels))
    skips = []
    for _ in range(halvings):
        x = L.Conv2D(2, 3, padding="same", activation="relu")(x)
        skips.append(x)
        x = L.MaxPooling2D()(x)
    for skip in reversed(skips):
        x = L.Concatenate()([L.Conv2DTranspose(2, 2, strides=2)(x), skip])
    return keras.Model(inputs, x)


def test_open_sizes_are_those_that_pass_through():
    assert probe_inputs(_unet(3), 4).shape == (4, 8, 8, 3)
    assert probe_inputs(_unet(5), 4).shape == (4, 32, 32, 3)
    sound = keras.Sequential([keras.Input((None, 1)), L.Conv1D(2, 80, 4), L.MaxPooling1D(4), L.Conv1D(2, 80)])
    assert probe_inputs(sound, 2).shape == (2, 2048, 1)
    short = keras.Sequential([keras.Input((None,), dtype="int32"), Words(9, 4)])
    assert probe_inputs(short, 2).shape == (2, 4)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float32"])
@pytest.mark.parametrize("words", [Words(60, 10), L.Embedding(60, 4)], ids=["inside of a layer", "Embedding"])
def test_numbers_of_words_cover_the_table_whatever_their_dtype(words, dtype):
    model = keras.Sequential([keras.Input((10,), dtype=dtype), type(words)(60, 10)])
    probe = probe_inputs(model, 200)
    assert probe.dtype == dtype
    assert set(np.unique(probe)) == set(range(60))


def test_every_input_is_drawn_by_its_own_kind():
    photo, word, switch = keras.Input((3,), name="a"), keras.Input((5,), name="b"), keras.Input((2,), dtype="bool")
    word_vectors = L.Flatten()(L.Embedding(1000, 3)(word))
    model = keras.Model([photo, {"b": word}, switch], [L.Dense(1)(photo), word_vectors, ops.logical_not(switch)])
    x, words, flags = probe_inputs(model, 50)
    assert x.min() < 0.1 < 0.9 < x.max() < 1
    assert words["b"].dtype == "float32"
    assert words["b"].max() > 900
    np.testing.assert_array_equal(words["b"], np.trunc(words["b"]))
    assert flags.dtype == bool
    assert flags.any()
    assert not flags.all()


def test_a_probe_gives_numbers_and_the_same_ones_again():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, ops.log(inputs - 1))
    probe = probe_inputs(model, 3, seed=5)
    assert np.isfinite(model(probe)).all()
    np.testing.assert_array_equal(probe, probe_inputs(model, 3, seed=5))
    with pytest.raises(ValueError, match="'never' cannot answer random inputs: it answers NaN or infinity; compare"):
        probe_inputs(keras.Model(inputs, ops.log(-1 - ops.abs(inputs)), name="never"), 3)


def test_models_of_tf_keras_and_half_inputs_have_probes():
    words = tf_keras.Input((None,))
    probe = probe_inputs(tf_keras.Model(words, tf_keras.layers.Embedding(33, 2)(words)), 50)
    assert probe.max() == 32
    half = keras.Sequential([keras.Input((4,), batch_size=2, dtype="bfloat16"), L.Dense(2)])
    assert probe_inputs(half, 9).shape == (2, 4)


def test_every_input_of_whole_numbers_has_the_limit_of_its_own_table():
    sizes = {"a": 5, "b": 40, "c": 7}
    inputs = {name: keras.Input((1,), name=name, dtype="int32") for name in sizes}
    found = [keras.layers.Embedding(size, 2)(inputs[name]) for name, size in sizes.items()]
    drawn = probe_inputs(keras.Model(inputs, keras.layers.Add()(found)), 64)
    assert {name: values.max() for name, values in drawn.items()} == {name: size - 1 for name, size in sizes.items()}
