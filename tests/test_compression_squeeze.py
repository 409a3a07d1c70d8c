"""Squeezed networks: multiples of a step, cheaper where bits cost more, in files that are as small as they say."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import masslib
from masslib import Compressed, Prune, Squeeze, compress, export, measure, models
from masslib.compression.steps.rates import bits
from masslib.runtime.packed import pack

QUICK = {"max_steps": 120, "epochs": 9, "learning_rate": 2e-3}
SETTINGS = {"batch_size": 32, "verbose": False}


@pytest.fixture(scope="module")
def model(digits):
    model = models.mlp(digits.input_shape, digits.num_classes, hidden=(64, 32))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    masslib.fit(model, digits.train, batch_size=32, epochs=8, verbose=0)
    return model


@pytest.fixture(scope="module")
def small(model, digits):
    return compress(model, [Prune(0.7, min_share=0, **QUICK), Squeeze(0.3, **QUICK)], digits.train, **SETTINGS)


@pytest.mark.slow
def test_the_file_has_few_values_and_is_many_times_smaller(model, small, digits, tmp_path):
    plain = export.tflite(model, tmp_path / "float.tflite")
    path = export.packed(small, tmp_path / "small.packed")
    for values in measure.weights(path).values():
        magnitudes = np.unique(np.abs(values[values != 0]))
        assert len(magnitudes) < 24
        # The smallest is a few steps.
        steps = [magnitudes / magnitudes[0] * few for few in range(1, 5)]
        assert any(np.allclose(levels, np.rint(levels), rtol=1e-5) for levels in steps)
    accuracy = [masslib.evaluate(it, digits.test).accuracy for it in (plain, path)]
    assert accuracy[1] > accuracy[0] - 0.02
    assert path.stat().st_size < plain.stat().st_size / 8
    x = digits.test[:][0]
    np.testing.assert_allclose(export.load(path).predict(x), small.model.predict(x, verbose=0), atol=1e-5)


@pytest.mark.slow
def test_zeros_of_a_pruned_network_stay(small):
    kernel = small.model.get_layer("dense1").kernel.numpy()
    assert (kernel == 0).mean() >= 0.699
    assert not np.signbit(kernel[kernel == 0]).any()


@pytest.mark.slow
def test_a_higher_rate_makes_a_smaller_file(model, digits, tmp_path):
    sizes = []
    for rate in (0.02, 20.0):
        squeezed = compress(model, Squeeze(rate, **QUICK), digits.train, **SETTINGS)
        sizes.append(export.packed(squeezed, tmp_path / f"{rate}.packed").stat().st_size)
    assert sizes[1] < 0.85 * sizes[0]


def test_the_rate_is_that_of_the_coder():
    """Of independent weights the two agree to a few per cent."""
    rng = np.random.default_rng(0)
    levels = np.rint(rng.laplace(0, 1.0, (300, 200))) * (rng.random((300, 200)) < rng.random(200)) + 0.0
    levels = levels.astype("float32")
    entry = keras.Input((300,))
    network = keras.Model(entry, layers.Dense(200, use_bias=False)(entry))
    network.layers[1].kernel.assign(levels * 0.125)
    coded = 8 * len(pack(_file_of(network)))
    assert float(bits(ops.convert_to_tensor(levels), ops.convert_to_tensor(levels))) == pytest.approx(coded, rel=0.12)


def test_weights_that_are_held_at_zero_cost_the_same_whether_they_are_computed_or_not():
    rng = np.random.default_rng(0)
    mask = rng.random((3, 3, 8, 20)) < 0.1 + 0.4 * rng.random(20)
    levels = ops.convert_to_tensor((rng.laplace(0, 1.5, mask.shape) * mask).astype("float32"))
    free = np.flatnonzero(mask).astype("int32")
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(levels)
        whole, part = bits(levels, ops.round(levels)), bits(levels, ops.round(levels), free)
    assert float(part) == pytest.approx(float(whole), rel=1e-5)
    wanted, found = (tape.gradient(of, levels).numpy() for of in (whole, part))
    np.testing.assert_allclose(found[mask], wanted[mask], atol=1e-4)
    assert not found[~mask].any()


def _file_of(network):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        return export.tflite(network, Path(folder, "network.tflite")).read_bytes()


@pytest.mark.slow
def test_normalization_is_folded_into_steps_of_the_channels(digits, tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input(digits.input_shape)
    x = layers.Conv2D(24, 3, padding="same", name="conv1")(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(24, 3, padding="same", name="conv2")(x)))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, layers.Dense(10, activation="softmax", name="top")(x))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    squeezed = compress(model, Squeeze(0.1, **QUICK), digits.train, **SETTINGS)
    path = export.packed(squeezed, tmp_path / "conv.packed")
    kernel = next(values for values in measure.weights(path).values() if values.shape == (24, 3, 3, 24))
    for channel in kernel:
        magnitudes = np.abs(channel[channel != 0])
        multiples = magnitudes / magnitudes.min(initial=1)
        assert np.allclose(multiples, np.rint(multiples), rtol=1e-5)
    # Two or three bits per weight, and what the channels and the graph take.
    assert path.stat().st_size < kernel.size * 3.5 / 8 + 3000


@pytest.mark.slow
def test_it_is_kept_in_a_folder(small, tmp_path, digits):
    small.save(tmp_path / "kept")
    again = Compressed.load(tmp_path / "kept")
    assert again.steps == small.steps
    x = digits.test[:][0]
    assert np.array_equal(again.model.predict(x, verbose=0), small.model.predict(x, verbose=0))


@pytest.mark.parametrize("rate", [0, -1, "much", float("inf"), True])
def test_a_rate_that_makes_no_sense_is_refused(rate):
    with pytest.raises(ValueError, match="expected a positive number, such as 0.3"):
        Squeeze(rate)


@keras.saving.register_keras_serializable()
class Scaled(layers.Layer):
    """A layer whose weights are no kernel."""

    def build(self, shape):
        self.supports_masking = True
        self.scales = self.add_weight(shape=(1, shape[-1]), initializer="ones", name="scales")

    def call(self, x):
        return x * self.scales


@keras.saving.register_keras_serializable()
class Block(layers.Layer):
    """A layer made of a layer."""

    def build(self, shape):
        self.supports_masking = True
        self.dense = layers.Dense(shape[-1], activation="relu", name="dense")
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x)


@pytest.mark.slow
def test_layers_made_of_layers_are_squeezed(tmp_path):
    keras.utils.set_random_seed(0)
    words = keras.Input((6,), dtype="int32", name="words")
    x = layers.Embedding(20, 8, mask_zero=True, name="table")(words)
    x = layers.Bidirectional(layers.GRU(12, return_sequences=True), name="both")(x)
    x = Scaled(name="own")(Block(name="block")(layers.MultiHeadAttention(2, 6, name="looked")(x, x)))
    model = keras.Model(words, layers.Dense(2, name="top")(layers.LSTM(8, name="last")(x)))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    data = masslib.data.from_arrays(rng.integers(0, 20, (64, 6)).astype("int32"), rng.integers(0, 2, 64))
    model.get_layer("last").trainable = False
    squeezed = compress(model, Squeeze(0.1, max_steps=3), data, **SETTINGS)
    assert squeezed.skipped == {
        "last": "Squeeze(0.1, max_steps=3): it is frozen",
        "own": "Squeeze(0.1, max_steps=3): its weights are in no kernel that Squeeze knows",
    }
    found = [squeezed.model.get_layer(name) for name in ("table", "both", "looked", "block")]
    kernels = [weight for layer in found for weight in layer.weights]
    assert len(kernels) == 1 + 6 + 8 + 2
    for kernel in map(np.asarray, kernels):
        magnitudes = np.unique(np.abs(kernel[kernel != 0]))
        multiples = magnitudes / magnitudes.min(initial=1)
        assert any(np.allclose(few * multiples, np.rint(few * multiples), rtol=1e-5) for few in range(1, 5))
    path = export.packed(squeezed, tmp_path / "recurrent.packed", batch_size=1)
    x = data[:][0]
    np.testing.assert_allclose(export.load(path).predict(x), squeezed.model.predict(x, verbose=0), atol=1e-5)


def test_a_frozen_layer_is_left_alone(model, digits):
    frozen = keras.models.clone_model(model)
    frozen.set_weights(model.get_weights())
    frozen.get_layer("dense1").trainable = False
    frozen.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    squeezed = compress(frozen, Squeeze(0.3, max_steps=2), digits.train, **SETTINGS)
    assert squeezed.skipped["dense1"].endswith("it is frozen")
    assert np.array_equal(squeezed.model.get_layer("dense1").kernel, model.get_layer("dense1").kernel)
