"""Augmentation: what happens to a row depends on (seed, epoch, row) alone."""

from __future__ import annotations

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from masslib.data import from_arrays

N = 12
X = np.random.default_rng(0).random((N, 6, 6, 3), np.float32)
SUBSET = from_arrays(X, np.arange(N))


def by_row(augment, *args, subset=SUBSET, **options) -> dict[int, np.ndarray]:
    """Row -> its augmented input in the last epoch of the dataset."""
    batches = subset.batches(*args, augment=augment, **options).as_numpy_iterator()
    return {int(row): x for xs, rows in batches for x, row in zip(xs, rows, strict=True)}


def same(a, b) -> bool:
    return all(np.array_equal(a[row], b[row]) for row in a.keys() & b.keys()) and bool(a.keys() & b.keys())


LAYERS = {
    "flip": lambda: keras.layers.RandomFlip(),
    "shift, rotate, zoom": lambda: keras.Sequential(
        [
            keras.layers.RandomTranslation(0.2, 0.2),
            keras.layers.RandomRotation(0.3),
            keras.layers.RandomZoom(0.2),
        ]
    ),
    "nested": lambda: keras.layers.RandomColorJitter((0, 1), 0.3, 0.3, 0.3, 0.3),
    "noise": lambda: keras.layers.GaussianNoise(0.1),
}


EXHAUSTIVE = ("shift, rotate, zoom", "nested", "noise")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.exhaustive) if name in EXHAUSTIVE else name for name in LAYERS]
)
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*left out of every epoch")
def test_a_row_meets_the_same_fate_wherever_it_stands(name):
    layer = LAYERS[name]()
    base = by_row(layer, 4)
    assert len(base) == N and not same(base, by_row(None, 4))
    assert same(base, by_row(layer, 5))
    assert same(base, by_row(layer, 5, shuffle=False))
    assert same(base, by_row(layer, 8, replicas=8))
    assert same(base, by_row(layer, 4, start=2))
    assert same(base, by_row(layer, 4, subset=SUBSET.take(7)))
    assert same(base, by_row(LAYERS[name](), 4))  # a fresh layer of any seed
    assert same(by_row(layer, 4, epoch=1), by_row(layer, 5, epochs=2))
    assert not same(base, by_row(layer, 4, epoch=1))
    assert not same(base, by_row(layer, 4, seed=1))


def test_the_layer_keeps_its_own_state():
    layer = keras.layers.RandomFlip(seed=3)
    before = [variable.numpy() for variable in layer.variables]
    by_row(layer, 4)
    assert before and all(np.array_equal(a, b.numpy()) for a, b in zip(before, layer.variables, strict=True))


class Draws(keras.layers.Layer):
    """Replaces its input by three draws of each of two seed generators."""

    def __init__(self):
        super().__init__()
        self.generators = [keras.random.SeedGenerator(0), keras.random.SeedGenerator(0)]

    def call(self, x):
        draws = [keras.random.uniform((), seed=g) for g in self.generators for _ in range(3)]
        return keras.ops.zeros_like(x) + keras.ops.stack(draws)


def test_no_two_draws_are_related():
    subset = from_arrays(np.zeros((500, 6)), np.arange(500))
    epochs = [by_row(Draws(), 100, subset=subset, epoch=epoch) for epoch in (0, 1)]
    draws = np.stack([epoch[row] for epoch in epochs for row in range(500)])
    assert len(np.unique(draws)) > 0.999 * draws.size  # float32 has few collisions among 6000
    assert abs(draws.mean() - 0.5) < 0.02
    related = np.corrcoef(np.concatenate([draws[:-1], draws[1:]], axis=1).T) - np.eye(12)
    assert np.abs(related).max() < 0.15


def test_a_layer_may_change_the_shape_and_need_not_be_random():
    layer = keras.Sequential([keras.layers.Rescaling(2.0), keras.layers.RandomCrop(4, 5)])
    assert SUBSET.batches(4, augment=layer).element_spec[0].shape.as_list() == [None, 4, 5, 3]
    doubled = by_row(keras.layers.Rescaling(2.0), 4)
    assert all(np.array_equal(doubled[row], 2 * X[row]) for row in range(N))


class Noise(keras.layers.Layer):
    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def call(self, x):
        return x + self.draw()


@pytest.mark.parametrize(
    "layer, error, words",
    [
        (lambda: lambda x: x, TypeError, "augment is <function.*expected a Keras layer"),
        (lambda: keras.layers.MixUp(), ValueError, "'mix_up.*MixUp.* mixes the rows"),
        (lambda: keras.Sequential([keras.layers.CutMix()]), ValueError, "CutMix.* mixes the rows"),
        (lambda: Noise(lambda: tf.random.normal(())), ValueError, "Noise.* two results from the same seeds"),
        (lambda: Noise(random.random), ValueError, "Noise.* two results from the same seeds"),
        (lambda: keras.layers.AugMix(value_range=(0, 1)), ValueError, "AugMix.* two results"),
        (
            lambda: Noise(lambda: keras.random.normal(())),
            ValueError,
            "changes state other than its own seeds",
        ),
        (lambda: keras.layers.BatchNormalization(), ValueError, "changes state other than its own seeds"),
    ],
)
def test_layers_that_cannot_be_repeated_are_refused(layer, error, words):
    tf.random.set_seed(0)  # many a notebook begins so; it must not hide anything
    with pytest.raises(error, match=words):
        SUBSET.batches(4, augment=layer())


@pytest.mark.slow
def test_many_datasets_can_be_made_without_a_warning_of_tensorflow(caplog):
    logger = tf.get_logger()
    logger.addHandler(caplog.handler)
    try:
        for epoch in range(7):
            SUBSET.batches(4, epoch=epoch, augment=keras.layers.RandomFlip(seed=1))
    finally:
        logger.removeHandler(caplog.handler)
    assert not caplog.records
