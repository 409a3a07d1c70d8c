"""Layers cut to a low rank: what is kept, what is left alone, and that it arrives in the file."""

import keras
import numpy as np
import pytest
from keras import layers

import masslib
from masslib import Compressed, LowRank, Prune, Quantize, QuantizeAware, compress, export, measure, models


@pytest.fixture(scope="module")
def model(digits):
    """Strides, dilation, a nested model, a layer that is called twice, and what cannot be factorized."""
    keras.utils.set_random_seed(0)
    image = keras.Input(digits.input_shape)
    x = layers.Conv2D(24, 3, strides=2, padding="same", activation="relu", name="first")(image)
    x = layers.Conv2D(24, 3, dilation_rate=2, padding="same", use_bias=False, name="dilated")(x)
    inner = keras.Sequential([keras.Input((4, 4, 24)), layers.Conv2D(24, 2, name="conv")], name="inner")
    x = layers.BatchNormalization(momentum=1.0)(inner(x))  # whose statistics stay as they are
    twice = layers.Conv2D(24, 3, padding="same", activation="relu", name="twice")
    x = layers.Add()([twice(twice(x)), x])
    x = layers.SeparableConv2D(24, 3, name="separable")(x)
    x = layers.Conv2D(24, 1, groups=2, name="grouped")(x)
    x = layers.Dense(64, activation="relu", name="dense")(layers.Flatten()(x))
    model = keras.Model(image, layers.Dense(10, activation="softmax", name="top")(layers.Dropout(0.2)(x)))
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _step(**settings):
    """One step of training that changes nothing."""
    return LowRank(**settings, min_share=0, max_steps=1, learning_rate=1e-30)


def _low(kernel, rank):
    matrix = kernel.reshape(-1, kernel.shape[-1])
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    return ((left[:, :rank] * values[:rank]) @ right[:rank]).reshape(kernel.shape)


def test_two_thin_layers_answer_as_the_one_whose_kernel_was_cut(model, digits):
    small = compress(model, _step(rank=7), digits.train, verbose=False)
    cut = keras.models.clone_model(model)
    cut.set_weights(model.get_weights())
    factorized = {"dilated", "twice", "dense", "top"}
    for layer in [*(cut.get_layer(name) for name in factorized), cut.get_layer("inner").get_layer("conv")]:
        kernel, *bias = layer.get_weights()
        layer.set_weights([_low(kernel, 7), *bias])
    x = digits.test[:][0][:64]
    answers = [one(x, training=False).numpy() for one in (cut, small.model)]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-6)
    assert np.abs(model(x, training=False) - answers[1]).max() > 1e-3
    assert small.skipped.keys() == {"first", "separable", "grouped"}
    assert small.skipped["first"].endswith("at rank 7 two layers would have 231 weights, the one has 216")
    assert small.skipped["separable"].endswith("layers of type SeparableConv2D are not factorized")
    assert small.skipped["grouped"].endswith("its 2 groups are not factorized")
    assert small.model.get_layer("dense_rank7").kernel.shape[-1] == 7


@pytest.mark.parametrize(("settings", "lost"), [({"energy": 0.9}, 0.1), ({"error": 0.6}, 0.36)])
def test_no_more_is_kept_than_was_asked_for(model, digits, settings, lost):
    small = compress(model, LowRank(**settings, max_steps=1), digits.train, verbose=False)
    names = [layer.name for layer in small.model.layers if "_rank" in layer.name]
    assert names
    for name in names:
        kernel = model.get_layer(name.split("_rank")[0]).get_weights()[0]
        squares = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False) ** 2
        rank = int(name.split("_rank")[1])
        assert squares[rank:].sum() <= lost * squares.sum() < squares[rank - 1 :].sum()


@pytest.mark.slow
def test_named_layers_get_their_own_rank_and_the_file_has_it(model, digits, tmp_path):
    small = compress(model, LowRank({"dense": 5, "twice": 9}, max_steps=2), digits.train, verbose=False)
    assert small.skipped["dilated"].endswith("is not named")
    stored = measure.weights(export.tflite(small, tmp_path / "small.tflite"))
    shapes = [kernel.shape for kernel in stored.values()]
    assert {(5, 24), (64, 5), (9, 3, 3, 24), (24, 1, 1, 9)} <= set(shapes)
    assert shapes.count((24, 3, 3, 24)) == 1  # "dilated", which was not named
    small.save(tmp_path / "kept")
    again = Compressed.load(tmp_path / "kept")
    assert again.steps == small.steps
    x = digits.test[:][0][:9]
    np.testing.assert_array_equal(again.model(x, training=False), small.model(x, training=False))


@pytest.mark.exhaustive
def test_fine_tuning_recovers_and_later_steps_follow(digits, tmp_path):
    model = models.mlp(digits.input_shape, digits.num_classes)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    masslib.fit(model, digits.train, batch_size=32, epochs=4, verbose=0)
    recipe = [LowRank(12, epochs=2), Prune(0.5, max_steps=60), QuantizeAware(max_steps=20)]
    small = compress(model, recipe, digits.train, batch_size=32, verbose=False)
    path = export.tflite(small, tmp_path / "small.tflite")
    table = measure.sparsity(path)
    table = table[table["shape"].map(len) == 2]
    assert sorted(table["shape"]) == [(10, 100), (12, 64), (12, 300), (100, 12), (300, 12)]
    assert set(table["dtype"]) == {"int8"}
    assert (table["zeros"][table["bytes"] > 1000] > 0.49).all()
    x, y = digits.test[:]
    assert np.mean(np.argmax(model(x), 1) == y) > 0.9
    assert np.mean(np.argmax(export.load(path).predict(x), 1) == y) > 0.8


@pytest.mark.slow
def test_the_same_call_gives_the_same_bits(model, digits):
    first, again = (
        compress(model, [LowRank(8, max_steps=3), Quantize("dynamic")], digits.train, verbose=False) for _ in "ab"
    )
    for a, b in zip(first.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: LowRank(),
            r"LowRank got none of rank, energy and error; expected exactly one .* LowRank\(energy=0.9\)",
        ),
        (lambda: LowRank(4, energy=0.9), "got rank and energy of"),
        (lambda: LowRank(0), r"LowRank\(rank=0\): expected a positive integer, or a dict"),
        (lambda: LowRank({"dense": 1.5}), "rank={'dense': 1.5}"),
        (lambda: LowRank({}), "rank={}"),
        (lambda: LowRank(energy=1), r"LowRank\(energy=1\): expected a fraction above 0 and below 1"),
        (lambda: LowRank(error=float("nan")), "error=nan"),
        (lambda: LowRank(4, min_share=-1), r"LowRank\(min_share=-1\): expected a fraction"),
    ],
)
def test_impossible_settings_are_refused_when_made(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_models_without_anything_to_factorize_are_refused(model, digits):
    with pytest.raises(ValueError, match=r"LowRank\(900\) finds no layer to work on:\n.*at rank 900 two layers"):
        compress(model, LowRank(900), digits.train, verbose=False)
    with pytest.raises(ValueError, match="names other; the layers to choose from are first, dilated, inner/conv"):
        compress(model, LowRank({"other": 3}), digits.train, verbose=False)
    plain = models.mlp(digits.input_shape, 10)
    with pytest.raises(ValueError, match="is not compiled, so its loss is unknown; call model.compile"):
        compress(plain, LowRank(3), digits.train, verbose=False)
