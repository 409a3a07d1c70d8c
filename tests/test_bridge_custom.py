"""Layers that are not part of Keras, and layers of Keras that tf_keras lacks."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from keras import layers

import masslib
from masslib import Prune, PruneChannels, QuantizeAware, bridge
from masslib.graph.copying import copied


@keras.saving.register_keras_serializable(package="test_bridge_custom")
class Gain(layers.Layer):
    """A gain per channel, and noise while it trains."""

    def __init__(self, start=0.5, **kwargs):
        super().__init__(**kwargs)
        self.start, self.noise = start, layers.Dropout(0.5, seed=1)

    def build(self, shape):
        self.gain = self.add_weight(shape=shape[-1:], initializer=keras.initializers.Constant(self.start), name="gain")
        self.offset = self.add_weight(shape=shape[-1:], trainable=False, initializer="zeros")  # without a name
        self.matrix = self.add_weight(shape=(shape[-1],) * 2, initializer="identity", name="matrix")

    def call(self, x, training=False):
        return self.noise(x, training=training) @ self.matrix * self.gain + self.offset

    def get_config(self):
        return super().get_config() | {"start": self.start}


@tf_keras.saving.register_keras_serializable(package="test_bridge_custom")
class TwinOfDoubled(tf_keras.layers.Layer):
    def __init__(self, factor=2, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return self.factor * x

    def get_config(self):
        return super().get_config() | {"factor": self.factor}


class Doubled(layers.Layer):
    def __init__(self, factor=2, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return self.factor * x

    def get_config(self):
        return super().get_config() | {"factor": self.factor}


def _model(*own) -> keras.Model:
    """A network with layers of one's own, an operation, and a layer that tf_keras does not have."""
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    for layer in own:
        x = layer(x)
    x = layers.RMSNormalization(name="rms")(layers.Conv2D(8, 3, padding="same", name="second")(x) + x)
    x = layers.Dense(16, activation="relu", name="dense")(layers.Flatten(name="flat")(x))
    model = keras.Model(image, layers.Dense(3, activation="softmax", name="top")(x), name="own")
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="sparse_categorical_crossentropy")
    return model


def _images(rows=64):
    rng = np.random.default_rng(0)
    return rng.random((rows, 8, 8, 1), "float32"), rng.integers(0, 3, rows)


@pytest.mark.parametrize(
    "twin",
    [TwinOfDoubled, lambda layer: TwinOfDoubled(layer.factor)],
    ids=["class", "function"],
)
def test_a_custom_layer_crosses_as_it_is_registered(twin):
    outer = keras.Sequential(
        [keras.Input((4,)), keras.Sequential([keras.Input((4,)), Doubled(3, name="own")], name="in")]
    )
    copy = bridge.to_tf_keras(outer, custom_layers={Doubled: twin})
    found = copy.get_layer("in/own")
    assert type(found) is TwinOfDoubled
    assert found.factor == 3
    assert (bridge.from_tf_keras(copy, like=outer)(np.ones((1, 4))) == 3).numpy().all()


def test_a_registration_that_does_not_fit_is_refused():
    model = keras.Sequential([keras.Input((4,)), Doubled(3, name="own")])
    for wrong in (lambda layer: None, keras.layers.ReLU, "carry"):
        with pytest.raises(
            ValueError, match="own: Doubled: custom_layers has .*, expected a tf_keras layer class, or a"
        ):
            bridge.to_tf_keras(model, custom_layers={Doubled: wrong})
    with pytest.raises(ValueError, match="disagree: relative difference 0.5"):
        model = keras.Sequential([keras.Input((4,)), Doubled(4, name="own")])
        bridge.to_tf_keras(model, custom_layers={Doubled: lambda layer: TwinOfDoubled(2)})


@pytest.mark.slow
def test_a_carried_layer_trains_and_comes_back():
    x, y = _images()
    model = _model(Gain(name="gain"))
    twin = bridge.to_tf_keras(model, custom_layers={Gain: bridge.carry})
    bridge.compile_like(twin, model)
    assert np.abs(twin(x, training=True) - twin(x, training=True)).max() > 0  # the dropout inside of it
    twin.fit(x, y, epochs=2, verbose=0)
    back = bridge.from_tf_keras(twin, like=model)
    (gain, matrix, offset), before = back.get_layer("gain").get_weights(), model.get_layer("gain").get_weights()
    assert np.abs(gain - before[0]).min() > 0 and np.abs(matrix - before[1]).max() > 0
    assert (offset == 0).all()
    assert np.abs(back(x) - twin(x)).max() < 1e-6


def test_a_frozen_layer_stays_frozen():
    x, y = _images()
    model = _model(Gain(name="gain"))
    model.get_layer("gain").trainable = False
    twin = bridge.to_tf_keras(model)
    bridge.compile_like(twin, model)
    twin.fit(x, y, verbose=0)
    for a, b in zip(twin.get_layer("gain").get_weights(), model.get_layer("gain").get_weights(), strict=True):
        assert (a == b).all()


@pytest.mark.slow
def test_a_recipe_with_custom_layers_ends_in_a_file(tmp_path):
    x, y = _images()
    model = _model(Gain(name="gain"))
    table = masslib.diagnose(model, min_share=0.05)
    assert table["bridges"].all()
    assert set(table.index[~table["quantizes"]]) == {"gain", "rms"}
    assert table.loc["gain", "why_not"].startswith("quantize: TFMOT has no quantized form of Gain")
    assert list(table.loc[table["type"] == "Add", "weights"]) == [0]
    small = masslib.compress(
        model,
        [Prune(0.5, max_steps=2), QuantizeAware(max_steps=2)],
        (x, y),
        batch_size=32,
        verbose=False,
    )
    small.save(tmp_path / "small")
    again = masslib.compression.Compressed.load(tmp_path / "small")
    assert np.abs(again.model(x) - small.model(x)).max() < 1e-6
    masslib.export.tflite(small, tmp_path / "small.tflite")
    answers = masslib.export.load(tmp_path / "small.tflite").predict(x)
    # The dropout inside of the gain doubles what it learns the ranges from, so they are twice as coarse.
    assert np.abs(answers - small.model(x)).mean() < 0.03


def _copies() -> list:
    """Layers as examples have them: no `**kwargs`, no `get_config`, arguments that no text can hold."""

    class Patches(layers.Layer):
        def __init__(self, size):
            super().__init__()
            self.size = size

        def call(self, x):
            return x[:, :: self.size] * self.size

    class Words(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.inner = layers.Dense(units)

        def call(self, x):
            return self.inner(x)

        def compute_output_shape(self, shape):
            return (*shape[:-1], self.inner.units)

    class Applied(layers.Layer):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def call(self, x):
            return self.function(x)

    class Renamed(layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__()
            self.inner = layers.Dense(units, **kwargs)

        def build(self, shape):
            self.inner.build(shape)

        def call(self, x):
            return self.inner(x)

    return [Patches(2), Words(3), Applied(keras.ops.square), Renamed(3, activation="relu")]


@pytest.mark.parametrize("index", range(4), ids=["no kwargs", "weights", "function", "renamed"])
def test_layers_that_do_not_say_how_to_make_them_cross(index):
    keras.utils.set_random_seed(0)
    own = _copies()[index]
    model = keras.Sequential([keras.Input((6,)), layers.Dense(6), own, layers.Dense(2, name="top")])
    model.compile("sgd", "mse")
    x, y = np.random.default_rng(0).random((32, 6), "float32"), np.zeros((32, 2), "float32")
    before = model.get_weights()
    twin = bridge.to_tf_keras(model)
    assert np.abs(twin(x) - model(x)).max() < 1e-6
    small = masslib.compress(model, Prune(0.5, min_share=0, max_steps=2), (x, y), verbose=False)
    assert small.model.get_layer(own.name).name == own.name
    assert all(map(np.array_equal, before, model.get_weights()))


class Forgetful(layers.Layer):
    """It returns settings, but not all of them."""

    def __init__(self, factor=1, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return self.factor * x

    def get_config(self):
        return super().get_config()


class Closed(layers.Layer):
    """It has weights, and an argument that no text can hold."""

    def __init__(self, initial):
        super().__init__()
        self.weight = self.add_weight(shape=(), initializer=keras.initializers.Constant(float(initial[0])))

    def call(self, x):
        return x * self.weight


class Pooled(layers.Layer):
    """An argument that no text can hold, a normalization, a dropout and a regularizer."""

    def __init__(self, scale):
        super().__init__()
        self.scale, self.noise, self.norm = scale, layers.Dropout(0.5), layers.BatchNormalization()
        self.inner = layers.Dense(4, kernel_regularizer=keras.regularizers.L2(0.1))

    def call(self, x, training=False):
        return self.inner(self.norm(self.noise(x, training=training), training=training)) * self.scale


@pytest.mark.parametrize("own", [lambda: Forgetful(3), lambda: Closed(np.ones(2)), lambda: Pooled(np.full(4, 3.0))])
def test_a_layer_whose_settings_cannot_be_had_is_copied_by_value(own, tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="dense"), own(), layers.Dense(2, name="top")])
    model.compile("sgd", "mse")
    x, y = np.random.default_rng(0).random((32, 4), "float32"), np.zeros((32, 2), "float32")
    before, copy = model.get_weights(), copied(model)
    np.testing.assert_array_equal(copy(x), model(x))
    np.testing.assert_array_equal(copied(copy)(x), model(x))
    for one in (copy, model):  # the copy trains as the model does, and neither changes the other
        keras.utils.set_random_seed(1)
        one.get_layer(index=1).trainable = True
        one.fit(x, y, batch_size=16, shuffle=False, verbose=0)
        if one is copy:
            assert all(map(np.array_equal, before, model.get_weights()))
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(copy.get_weights(), model.get_weights(), strict=True))
    assert model.layers[1].output is not None  # it is in no other graph
    small = masslib.compress(model, Prune(0.5, min_share=0, max_steps=2), (x, y), batch_size=16, verbose=False)
    assert (small.model.get_layer("dense").get_weights()[0] == 0).mean() == 0.5
    with pytest.raises(ValueError, match=f"layer '{model.layers[1].name}' cannot be saved .*; give its class"):
        small.save(tmp_path / "small")
    assert not list(tmp_path.iterdir())


class Bare(layers.Layer):
    """A dense layer and an argument that no text can hold."""

    def __init__(self, scale):
        super().__init__()
        self.scale, self.inner = scale, layers.Dense(4)

    def call(self, x):
        return self.inner(x) * self.scale


def test_a_layer_copied_by_value_writes_no_weight_that_it_only_reads():
    model = keras.Sequential([keras.Input((4,)), Bare(np.full(4, 3.0, "float32"))])
    copy = copied(model)
    graph = tf.function(lambda x: copy(x, training=False)).get_concrete_function(tf.TensorSpec((None, 4))).graph
    assert not [operation.name for operation in graph.get_operations() if "Assign" in operation.type]
    x = np.random.default_rng(0).random((8, 4), "float32")
    np.testing.assert_array_equal(copy(x), model(x))


@pytest.mark.slow
def test_a_layer_copied_by_value_is_left_alone_by_quantize_aware(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4), Pooled(np.full(4, 3.0)), layers.Dense(2)])
    model.compile("sgd", "mse")
    x, y = np.random.default_rng(0).random((32, 4), "float32"), np.zeros((32, 2), "float32")
    small = masslib.compress(model, QuantizeAware(max_steps=2), (x, y), batch_size=16, verbose=False)
    masslib.export.tflite(small, tmp_path / "small.tflite")
    with pytest.raises(ValueError, match="layers of type Pooled cannot be written"):
        small.save(tmp_path / "small")


def test_channels_are_pruned_around_layers_that_do_not_say_how_to_make_them():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, name="dense"), layers.Dense(4, name="next"), _copies()[1]]
    )
    model.compile("sgd", "mse")
    x, y = np.random.default_rng(0).random((32, 6), "float32"), np.zeros((32, 3), "float32")
    small = masslib.compress(model, PruneChannels(0.5, max_steps=2), (x, y), batch_size=16, verbose=False)
    assert small.model.get_layer("dense").units == 4
