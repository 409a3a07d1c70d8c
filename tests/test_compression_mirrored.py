"""A model built under mirrored replicas is compressed by all of them, to the same end as by one."""

import keras
import numpy as np
import pytest

import masslib
from masslib import Cluster, Distill, LowRank, Prune, PruneChannels, QuantizeAware, compress, export, measure, models

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mirrored():
    return masslib.strategy("mirrored", devices=2)


@pytest.fixture(scope="module")
def compressed(digits, mirrored):
    """One model, compressed by one replica and by two."""
    recipe = [
        Prune(0.5, "constant", max_steps=8),
        Cluster(8, max_steps=8),
        QuantizeAware(max_steps=8, learning_rate=1e-3),
    ]
    found = []
    for strategy in (masslib.strategy("default"), mirrored):
        with strategy.scope():
            model = models.mlp(digits.input_shape, digits.num_classes, hidden=(32,))
            model.compile(optimizer=keras.optimizers.SGD(0.1), loss="sparse_categorical_crossentropy")
        found.append(compress(model, recipe, digits.train.take(1024), batch_size=64, verbose=False))
    return found


def test_two_replicas_follow_the_recipe_as_one_does(compressed, digits):
    one, two = compressed
    assert one.model.distribute_strategy.num_replicas_in_sync == 1
    assert two.model.distribute_strategy.num_replicas_in_sync == 2
    assert two.skipped == one.skipped
    kernels = [[w.numpy() for w in small.model.weights if "kernel:" in w.name] for small in compressed]
    for a, b in zip(*kernels, strict=True):
        # Rounding decides where the few weights go that lie between two centroids.
        assert np.isclose(a, b, atol=1e-3).mean() > 0.98
    x, _ = digits.test[:]
    # Not nearer: the range of an activation is the mean of those that the replicas see.
    assert np.abs(one.model(x, training=False) - two.model(x, training=False)).mean() < 0.01


def test_the_file_of_two_replicas_keeps_what_every_step_has_won(compressed, digits, tmp_path):
    small = compressed[1]
    path = export.tflite(small, tmp_path / "mirrored.tflite")
    kernels = measure.sparsity(path)
    kernels = kernels[kernels["shape"].map(len) == 2]
    assert list(kernels["dtype"]) == ["int8", "int8"]
    assert (kernels["zeros"] >= 0.5).all()
    assert (kernels["distinct"] <= 8).all()
    x, _ = digits.test[:]
    assert np.abs(export.load(path).predict(x) - small.model(x, training=False)).mean() < 0.01


def test_no_replica_is_left_without_rows(digits, mirrored):
    with mirrored.scope():
        model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.BatchNormalization()])
        model.add(keras.layers.Dense(10, activation="softmax"))
        model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    with pytest.warns(UserWarning, match="1 of 65 rows are left out of every epoch"):
        small = compress(model, Prune(0.5, epochs=2), digits.train.take(65), batch_size=64, verbose=False)
    assert all(np.isfinite(weights).all() for weights in small.model.get_weights())


def test_two_replicas_rebuild_a_model_as_one_does(digits, mirrored):
    def student():
        return models.mlp(digits.input_shape, digits.num_classes, hidden=(40, 32), seed=1)

    few = {"max_steps": 6, "learning_rate": 0.05}
    recipe = [
        Distill(student, features={"dense2": "dense2"}, **few),
        PruneChannels({"dense1": 0.25}, **few),
        LowRank({"dense1": 8}, **few),
    ]
    found = []
    for strategy in (masslib.strategy("default"), mirrored):
        with strategy.scope():
            model = models.mlp(digits.input_shape, digits.num_classes, hidden=(64, 32))
            model.compile(optimizer=keras.optimizers.SGD(0.1), loss="sparse_categorical_crossentropy")
        found.append(compress(model, recipe, digits.train.take(1024), batch_size=64, verbose=False).model)
    one, two = found
    assert two.distribute_strategy.num_replicas_in_sync == 2
    assert [weight.shape for weight in one.weights][:2] == [(64, 8), (8, 30)]
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_strategy_of_one_replica_follows_the_recipe(digits):
    with masslib.strategy("mirrored", devices=1).scope():
        model = models.mlp(digits.input_shape, digits.num_classes, hidden=(32,))
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    small = compress(model, [Prune(0.5, "constant", max_steps=4)], digits.train, batch_size=64, verbose=False)
    assert np.mean(small.model.layers[1].kernel.numpy() == 0) == pytest.approx(0.5, abs=0.01)
