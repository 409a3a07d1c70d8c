"""The state of a training that Keras hides: its sources of random numbers."""

import keras
import numpy as np
import pytest
from keras import layers

import masslib


class OwnNoise(layers.Layer):
    """A layer of a user's that draws random numbers."""

    def __init__(self, **options):
        super().__init__(**options)
        self.source = keras.random.SeedGenerator(seed=1, name="my_own_source")

    def call(self, inputs, training=False):
        return inputs + keras.random.normal(keras.ops.shape(inputs), seed=self.source) if training else inputs


RANDOM = {
    "Dropout": lambda: layers.Dropout(0.5),
    "SpatialDropout2D": lambda: layers.SpatialDropout2D(0.5),
    "GaussianDropout": lambda: layers.GaussianDropout(0.5),
    "GaussianNoise": lambda: layers.GaussianNoise(0.5),
    "AlphaDropout": lambda: layers.AlphaDropout(0.5),
    "a nested model": lambda: keras.Sequential([layers.ReLU(), layers.Dropout(0.5)]),
    "RandomFlip": lambda: layers.RandomFlip(),
    "RandomRotation": lambda: layers.RandomRotation(0.2),
    "RandomContrast": lambda: layers.RandomContrast(0.2),
    "RandomZoom": lambda: layers.RandomZoom(0.2),
    "RandomTranslation": lambda: layers.RandomTranslation(0.1, 0.1),
    "RandomBrightness": lambda: layers.RandomBrightness(0.2, value_range=(0, 1)),
    "MultiHeadAttention": lambda: layers.MultiHeadAttention(1, 2, dropout=0.5),
    "a layer of the user's": lambda: OwnNoise(),
    "LSTM": lambda: keras.Sequential([layers.Reshape((8, 8)), layers.LSTM(4, dropout=0.5)]),
}


def _sources(thing, seen):
    """All generators that an object holds, found by looking into every attribute."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, keras.random.SeedGenerator):
        yield thing
    elif isinstance(thing, layers.Layer):
        for value in vars(thing).values():
            yield from _sources(value, seen)
    elif isinstance(thing, list | tuple):
        for value in thing:
            yield from _sources(value, seen)


@pytest.mark.slow
def test_every_replica_draws_random_numbers_of_its_own_and_checkpoints_hold_them(digits, tmp_path):
    """`fit` finds the generators by a name that Keras gives them, which no contract protects."""
    strategy = masslib.strategy("mirrored", devices=2)
    with strategy.scope():
        inputs = keras.Input((8, 8, 1))
        outputs = inputs
        parts = {name: make() for name, make in RANDOM.items()}
        for part in parts.values():
            outputs = part(outputs, outputs) if isinstance(part, layers.MultiHeadAttention) else part(outputs)
        model = keras.Model(inputs, layers.Dense(10, "softmax")(outputs))
        model.compile("sgd", "sparse_categorical_crossentropy")
    masslib.fit(model, digits.test.take(40), batch_size=20, verbose=0, checkpoint=tmp_path)
    seeds = []
    for name, part in parts.items():
        found = list(_sources(part, set()))
        assert found, name
        for source in found:
            first, second = (copy.numpy() for copy in strategy.experimental_local_results(source.state.value))
            assert first[0] != second[0], name
            seeds.append(first)
    with np.load(max(tmp_path.glob("step-*.npz"))) as file:
        kept = [file[name] for name in file.files if "seed_generator_state" in name]
    assert sorted(map(tuple, kept)) == sorted(map(tuple, seeds))
