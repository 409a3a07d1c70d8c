"""Channels taken out of every kind of network: zeros leave the answers as they are, and the file has fewer of them."""

import keras
import numpy as np
import pytest
from keras import layers

import masslib
from masslib import Compressed, LowRank, Prune, PruneChannels, Quantize, compress, export, measure
from masslib.graph.channels import Channels

# Trains, but changes nothing: momentum 1 keeps the statistics of the batch normalization.
STILL = {"max_steps": 1, "learning_rate": 1e-30}


def _norm(x, name):
    return layers.BatchNormalization(momentum=1.0, name=name)(x)


def _plain(image):
    x = layers.Conv2D(8, 3, padding="same", name="conv")(image)
    x = layers.ReLU(6.0)(_norm(x, "norm"))
    x = layers.MaxPooling2D()(layers.ZeroPadding2D()(x))
    x = layers.Conv2D(6, 2, activation="relu", use_bias=False, name="second")(x)
    return layers.Dense(12, activation="relu", name="wide")(layers.Dropout(0.1)(layers.Flatten()(x)))


def _residual(image):
    x = layers.ReLU()(_norm(layers.Conv2D(8, 3, padding="same", name="stem")(image), "norm"))
    for number in (1, 2):
        y = layers.Conv2D(10, 3, padding="same", activation="relu", name=f"inner{number}")(x)
        y = _norm(layers.Conv2D(8, 3, padding="same", name=f"last{number}")(y), f"norm{number}")
        x = layers.ReLU()(layers.Add()([x, y]) if number == 1 else x + y)
    return layers.GlobalAveragePooling2D()(x)


def _branches(image):
    left = layers.Conv2D(4, 3, padding="same", activation="relu", name="left")(image)
    right = layers.Conv2D(6, 5, padding="same", activation="relu", name="right")(image)
    x = layers.Concatenate(name="both")([left, right])
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu", use_bias=False, name="depthwise")(x)
    x = _norm(x, "norm")
    x = layers.SeparableConv2D(10, 3, depth_multiplier=2, activation="relu", name="separable")(x)
    gate = layers.Reshape((1, 1, 10), name="reshape")(layers.GlobalAveragePooling2D()(x))
    gate = layers.Conv2D(4, 1, activation="relu", name="squeeze")(gate)
    gate = layers.Conv2D(10, 1, activation="sigmoid", name="excite")(gate)
    x = layers.Multiply()([x, gate])
    x = layers.PReLU(shared_axes=[1, 2], name="prelu")(x)
    return layers.Flatten()(layers.UpSampling2D()(x))


def _nested(image):
    twice = layers.Conv2D(8, 3, padding="same", activation="relu", name="twice")
    inner = keras.Sequential([keras.Input((8, 8, 8)), layers.Conv2D(6, 3, name="conv"), layers.ReLU()], name="inner")
    x = layers.Conv2D(8, 1, activation="relu", name="first")(image)
    x = inner(twice(twice(x)))
    x = layers.Conv2DTranspose(6, 2, strides=2, activation="relu", name="transposed")(x)
    return layers.GlobalMaxPooling2D()(x)


BODIES = {"plain": _plain, "residual": _residual, "branches": _branches, "nested": _nested}


def _built(kind, shape=(8, 8, 1)):
    keras.utils.set_random_seed(1)
    image = keras.Input(shape)
    model = keras.Model(image, layers.Dense(10, activation="softmax", name="top")(BODIES[kind](image)), name=kind)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _silence(model, dead):
    """Make the channels in some groups zero in all layers that compute or scale them, and of no importance."""
    channels = Channels(model)
    for name, (_, outgoing) in channels.ends.items():
        layer = model
        for part in name.split("/"):
            layer = layer.get_layer(part)
        gone = np.isin(channels.group[outgoing], dead)
        weights = [np.array(weight) for weight in layer.get_weights()]
        for variable, weight in zip(layer.weights, weights, strict=True):
            if name in channels.producers and variable.name != "depthwise_kernel":
                axis = -2 if "Transpose" in type(layer).__name__ and weight.ndim > 1 else -1
                np.moveaxis(weight, axis, 0)[gone] = 0
            elif variable.name in ("gamma", "beta"):
                weight[gone] = 0
        layer.set_weights(weights)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("plain", {"conv": 4, "second": 3, "wide": 6}),
        ("residual", {"stem": 4, "inner1": 5, "last1": 4, "inner2": 5, "last2": 4}),
        ("branches", {"left": 2, "right": 3, "separable": 5, "squeeze": 2, "excite": 5}),
        ("nested", {"first": 4, "twice": 4, "inner/conv": 3, "transposed": 3}),
    ],
)
def test_zero_channels_are_found_and_taken_out_without_a_trace(digits, kind, expected):
    model = _built(kind)
    channels = Channels(model)
    dead = []
    rng = np.random.default_rng(3)
    for name in expected:
        groups = channels.group[channels.producers[name]]
        if not np.isin(groups, dead).any():
            dead += rng.choice(groups, len(groups) // 2, replace=False).tolist()
    _silence(model, dead)
    small = compress(model, PruneChannels(0.5, **STILL), digits.train, verbose=False)
    again = Channels(small.model)
    assert {name: len(own) for name, own in again.producers.items()} == expected | {"top": 10}
    assert small.skipped == {"top": f"{small.steps[0]!r}: computes outputs of the model"}
    assert small.model.count_params() < 0.6 * model.count_params()
    x = 30 * digits.test[:][0][:100]
    before, after = (one(x, training=False).numpy() for one in (model, small.model))
    assert np.ptp(before, axis=0).max() > 0.01
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_what_needs_all_channels_keeps_them_and_is_reported(digits):
    image = keras.Input(digits.input_shape)
    x = layers.Conv2D(8, 3, name="free", activation="relu")(image)
    x = layers.Conv2D(8, 3, groups=2, name="grouped")(x)
    x = layers.Conv2D(8, 3, name="before")(x)
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.Conv2D(4, 1, activation="softmax", name="soft")(x)
    x = layers.Conv2D(1, 1, name="single")(x) + layers.Conv2D(4, 1, name="wide")(x)
    x = layers.Dense(6, name="dense")(layers.Flatten()(x))
    x = layers.Reshape((2, 3), name="reshape")(x)
    added = layers.Add()([layers.Conv2D(1, 1, name="to_input")(image), image])
    x = layers.Concatenate()([layers.Flatten()(x), layers.Flatten()(added)])
    model = keras.Model(image, layers.Dense(10, activation="softmax", name="top")(x))
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    small = compress(model, PruneChannels(0.5, max_steps=1), digits.train, verbose=False)
    step = "PruneChannels(0.5, max_steps=1): "
    assert small.skipped == {
        "free": f"{step}feeds 'grouped', a Conv2D that needs all channels",
        "grouped": f"{step}its 2 groups keep all of their channels",
        "before": f"{step}feeds 'norm', a LayerNormalization that needs all channels",
        "soft": f"{step}has the activation 'softmax', which needs all channels",
        "single": f"{step}50% of its 1 channels are less than one",
        "dense": f"{step}feeds 'reshape', a Reshape that needs all channels",
        "to_input": f"{step}is coupled with an input of the model",
        "top": f"{step}computes outputs of the model",
    }
    assert small.model.get_layer("wide").filters == 2
    with pytest.raises(ValueError, match=r"names layers that it cannot treat: before: feeds 'norm', a LayerNorm"):
        compress(model, PruneChannels({"before": 0.5}), digits.train, verbose=False)
    with pytest.raises(ValueError, match=r"finds no layer to work on:\n  free: feeds 'grouped'"):
        compress(model, PruneChannels(0.1), digits.train, verbose=False)


def test_named_layers_take_those_along_that_they_are_coupled_with(digits):
    model = _built("residual")
    small = compress(model, PruneChannels({"last1": 0.25, "inner2": 0.7}, **STILL), digits.train, verbose=False)
    found = {name: len(own) for name, own in Channels(small.model).producers.items()}
    assert found == {"stem": 6, "inner1": 10, "last1": 6, "inner2": 3, "last2": 6, "top": 10}
    assert {name: reason.split(": ")[-1] for name, reason in small.skipped.items()} == {
        "inner1": "is not named",
        "top": "is not named",
    }
    with pytest.raises(ValueError, match="gives .* different fractions; they are coupled .* name one of them only"):
        compress(model, PruneChannels({"stem": 0.5, "last2": 0.25}), digits.train, verbose=False)


@pytest.mark.parametrize("importance", ["l1", "l2", "bn"])
def test_the_channels_of_least_importance_go(digits, importance):
    model = _built("plain")
    kernel, bias = model.get_layer("conv").get_weights()
    kernel[:] = 0
    kernel[0, 0, 0] = np.array([5, 1, 5, 1, 5, 5, 1, 1])  # one large weight each
    kernel[1, :, 0, ::2] = [[2, 0, 2, 2]] * 3  # and for l1 channel 6, too
    scale = np.array([1, 1, 0.1, 1, 0.1, 0.1, 1, 0.1], "float32")
    model.get_layer("conv").set_weights([kernel, bias])
    _, *others = model.get_layer("norm").get_weights()
    model.get_layer("norm").set_weights([scale, *others])
    small = compress(model, PruneChannels({"conv": 0.5}, importance, **STILL), digits.train, verbose=False)
    expected = {"l1": [0, 4, 5, 6], "l2": [0, 2, 4, 5], "bn": [0, 1, 3, 6]}[importance]
    np.testing.assert_allclose(small.model.get_layer("conv").get_weights()[0], kernel[..., expected], atol=1e-6)
    np.testing.assert_array_equal(small.model.get_layer("norm").get_weights()[0], scale[expected])


@pytest.mark.slow
def test_the_file_has_fewer_channels_and_later_steps_follow(digits, tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input(digits.input_shape)
    x = image
    for filters in (16, 32):
        x = layers.Conv2D(filters, 3, padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.8)(x))
    x = layers.Flatten()(layers.MaxPooling2D()(x))
    x = layers.Dense(128, activation="relu", name="wide")(x)
    model = keras.Model(image, layers.Dense(10, activation="softmax")(x))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    masslib.fit(model, digits.train, batch_size=32, epochs=5, verbose=0)
    recipe = [
        PruneChannels(0.75, epochs=3),
        LowRank({"wide": 10}, max_steps=30),
        Prune({"wide_rank10": 0.5}, max_steps=20),
        Quantize("int8"),
    ]
    small = compress(model, recipe, digits.train, batch_size=32, verbose=False)
    path = export.tflite(small, tmp_path / "small.tflite")
    table = measure.sparsity(path)
    shapes = sorted(shape for shape in table["shape"] if len(shape) > 1)
    assert shapes == [(4, 3, 3, 1), (8, 3, 3, 4), (10, 32), (10, 128), (32, 10)]
    assert set(table["dtype"]) == {"int8", "int32"}
    x, y = digits.test[:]
    assert np.mean(np.argmax(model(x, training=False), 1) == y) > 0.9
    assert np.mean(np.argmax(export.load(path).predict(x), 1) == y) > 0.75
    small.save(tmp_path / "kept")
    assert Compressed.load(tmp_path / "kept").steps == small.steps == tuple(recipe)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: PruneChannels(1),
            r"PruneChannels\(fraction=1\): expected a fraction above 0 and below 1, such as 0.5",
        ),
        (lambda: PruneChannels({"conv": 0}), r"fraction={'conv': 0}"),
        (lambda: PruneChannels({}), r"fraction={}"),
        (lambda: PruneChannels(float("nan")), "fraction=nan"),
        (lambda: PruneChannels(0.5, "taylor"), r"importance='taylor'\): expected one of 'l1', 'l2', 'bn'"),
        (lambda: PruneChannels(0.5, max_steps=0), r"PruneChannels\(max_steps=0\): expected a positive integer"),
    ],
)
def test_impossible_settings_are_refused_when_made(make, words):
    with pytest.raises(ValueError, match=words):
        make()
