"""Every step alone and every pair of steps that makes sense, on three kinds of network, judged by the exported file."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

import masslib
from masslib import Cluster, Distill, LowRank, Prune, PruneChannels, Quantize, QuantizeAware, compress, export, measure

WIDTH = 16
RANK = 4


def _normalized(x, width, name):
    x = layers.Conv2D(width, 3, padding="same", name=name)(x)
    return layers.BatchNormalization(momentum=0.9)(x)


def _cnn(width):
    image = keras.Input((8, 8, 1))
    x = layers.ReLU()(_normalized(image, width, "first"))
    x = layers.MaxPooling2D()(layers.ReLU()(_normalized(x, width, "conv")))
    x = layers.Dense(2 * width, activation="relu", name="wide")(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(10, activation="softmax", name="top")(x), name="cnn")


def _resnet(width):
    image = keras.Input((8, 8, 1))
    x = layers.ReLU()(_normalized(image, width, "first"))
    for number in (1, 2):
        y = layers.ReLU()(_normalized(x, width, f"conv{number}a"))
        x = layers.ReLU()(layers.Add()([x, _normalized(y, width, f"conv{number}b")]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="top")(x), name="resnet")


def _mlp(width):
    columns = keras.Input((64,))
    x = layers.Dense(4 * width, activation="relu", name="wide")(columns)
    x = layers.Dense(2 * width, activation="relu", name="second")(x)
    return keras.Model(columns, layers.Dense(10, activation="softmax", name="top")(x), name="mlp")


NETWORKS = {"cnn": _cnn, "resnet": _resnet, "mlp": _mlp}
FACTORIZED = {"cnn": ("conv", "wide"), "resnet": ("conv1a", "conv2b"), "mlp": ("wide", "second")}
NAMES = ("Distill", "PruneChannels", "LowRank", "Prune", "Cluster", "Quantize", "QuantizeAware")
RECIPES = [(name,) for name in NAMES] + [
    pair for pair in itertools.combinations(NAMES, 2) if pair != ("Quantize", "QuantizeAware")
]
FEW = {("resnet", "PruneChannels", "Quantize"), ("mlp", "LowRank", "Prune")}


def _step(name, kind):
    # Few steps: what is won does not depend on how well the network recovers from it.
    few = {"max_steps": 4}
    return {
        "Distill": lambda: Distill(lambda: NETWORKS[kind](WIDTH // 2), **few),
        "PruneChannels": lambda: PruneChannels(0.5, **few),
        "LowRank": lambda: LowRank(dict.fromkeys(FACTORIZED[kind], RANK), **few),
        "Prune": lambda: Prune(0.5, "constant", min_share=0, **few),
        "Cluster": lambda: Cluster(8, min_share=0, **few),
        "Quantize": lambda: Quantize("int8"),
        "QuantizeAware": lambda: QuantizeAware(**few),
    }[name]()


def _cases():
    for kind in NETWORKS:
        for recipe in RECIPES:
            mark = pytest.mark.slow if (kind, *recipe) in FEW else pytest.mark.exhaustive
            yield pytest.param(kind, recipe, marks=mark, id=f"{kind}-{'-'.join(recipe)}")


@pytest.fixture(scope="module")
def digits():
    return masslib.data.load("digits").train[:]


@pytest.fixture(scope="module")
def trained(digits):
    """One network of each kind, trained for a moment, and its data."""
    made = {}

    def network(kind):
        if kind not in made:
            keras.utils.set_random_seed(0)
            x, y = digits
            x = x.reshape(len(x), -1) if kind == "mlp" else x
            model = NETWORKS[kind](WIDTH)
            model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
            masslib.fit(model, x, y, batch_size=32, epochs=2, verbose=0)
            made[kind] = model, (x, y)
        return made[kind]

    return network


def _kernels(kind, recipe):
    """The shapes of the kernels that the file should have, in the order of TFLite, output channels first."""
    width = WIDTH // 2 ** sum(name in ("Distill", "PruneChannels") for name in recipe)
    for layer in NETWORKS[kind](width).layers:
        if hasattr(layer, "kernel"):
            *window, entering, leaving = layer.kernel.shape
            if "LowRank" in recipe and layer.name in FACTORIZED[kind]:
                yield (RANK, *window, entering)
                yield (leaving, *(1 for _ in window), RANK)
            else:
                yield (leaving, *window, entering)


@pytest.mark.parametrize(("kind", "recipe"), list(_cases()))
def test_the_file_has_what_each_step_promises(trained, tmp_path, kind, recipe):
    model, data = trained(kind)
    small = compress(model, [_step(name, kind) for name in recipe], data, batch_size=32, verbose=False)
    path = export.tflite(small, tmp_path / "small.tflite")
    table = measure.sparsity(path)
    kernels = table[table["shape"].map(len) > 1]
    assert sorted(kernels["shape"]) == sorted(_kernels(kind, recipe))
    if "Prune" in recipe:
        # Rounded per kernel: half of an odd number of weights is one less.
        assert (kernels["zeros"] >= 0.5 - 1 / kernels["shape"].map(np.prod)).all()
    else:
        # TFMOT clusters around a zero where many weights become one.
        assert "Cluster" in recipe or (kernels["zeros"] < 0.3).all()
    if "Cluster" in recipe:
        # Batch normalization is folded into convolutions, and int8 has a scale per channel.
        assert (kernels["distinct_per_channel"] <= 8).all()
    integers = {"Quantize", "QuantizeAware"} & set(recipe)
    assert set(kernels["dtype"]) == ({"int8"} if integers else {"float32"})
    if integers:
        operators = export.inspect(path).table
        computing = operators[operators["op"].isin(["CONV_2D", "FULLY_CONNECTED", "ADD", "MEAN", "MAX_POOL_2D"])]
        assert len(computing) >= len(kernels)
        assert set(computing["activations"]) == {"int8"}
    x, _ = data
    answers = export.load(path).predict(x[:50])
    assert answers.shape == (50, 10)
    np.testing.assert_allclose(answers.sum(1), 1, atol=0.05)
