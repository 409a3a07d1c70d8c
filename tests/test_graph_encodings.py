"""Categories encoded by operations that every format has."""

import keras
import numpy as np
import pytest
from keras import layers

import masslib
from masslib.graph.encodings import plainly_encoded

rng = np.random.default_rng(0)


def _model(layer, width):
    entry = keras.Input((width,), dtype="int32" if isinstance(layer, layers.CategoryEncoding) else "float32")
    return keras.Model(entry, layer(entry))


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("mode", ["one_hot", "multi_hot", "count"])
def test_it_answers_as_keras_does(mode, width):
    numbers = rng.integers(0, 6, (8, width))
    numbers[:, -1] = numbers[:, 0]  # counted twice
    for layer, x in (
        (layers.CategoryEncoding(6, mode), numbers),
        (layers.Discretization([-1.0, 0.0, 2.5], output_mode=mode), rng.normal(size=(8, width)).astype("float32")),
    ):
        model = _model(layer, width)
        plain = plainly_encoded(model)
        assert plain is not model
        assert plain.output.shape == model.output.shape
        np.testing.assert_array_equal(plain(x), model(x))
        np.testing.assert_array_equal(masslib.bridge.to_tf_keras(model)(x), model(x))


def test_weighted_counts():
    entry, weights = keras.Input((3,), dtype="int32"), keras.Input((3,))
    model = keras.Model([entry, weights], layers.CategoryEncoding(6, "count")(entry, count_weights=weights))
    rows = [rng.integers(0, 6, (8, 3)), rng.random((8, 3), "float32")]
    np.testing.assert_allclose(plainly_encoded(model)(rows), model(rows), rtol=1e-6)


def test_other_models_are_returned_as_they_are():
    model = _model(layers.Discretization([0.0]), 2)
    assert plainly_encoded(model) is model


@pytest.mark.slow
def test_many_categories_in_an_int8_file(tmp_path):
    """The converter made eight bits of the categories, and other numbers of zeros and ones."""
    keras.utils.set_random_seed(0)
    entry = keras.Input((1,), dtype="int32")
    x = layers.Concatenate()([layers.CategoryEncoding(1000, "one_hot")(entry), layers.Rescaling(1e-3)(entry)])
    model = keras.Model(entry, layers.Dense(3, kernel_initializer=keras.initializers.RandomNormal(stddev=1.0))(x))
    rows = rng.integers(0, 1000, (100, 1))
    small = masslib.compress(model, masslib.Quantize("int8"), masslib.data.from_arrays(rows), verbose=False)
    with masslib.export.load(masslib.export.tflite(small, tmp_path / "model.tflite")) as file:
        np.testing.assert_allclose(file.predict(rows), model(rows), atol=0.1)
