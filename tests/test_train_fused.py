"""The fused batch normalization of `fit` computes what Keras' does, and is used only where it can."""

import functools
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from masslib import fit, models
from masslib.train import fused

ROWS = 24
RNG = np.random.default_rng(0)
IMAGES = RNG.random((ROWS, 8, 8, 3), "float32")
LABELS = RNG.integers(0, 4, ROWS)


def _compiled(model, **settings):
    settings = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]} | settings
    model.compile(optimizer=keras.optimizers.SGD(0.1), **settings)
    return model


def _graph(*, norm=None, **settings):
    """Everything at once: a layer used twice, a nested model, a residual add, losses of layers, dropout."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", kernel_regularizer="l2", activity_regularizer="l1")(inputs)
    x = (norm or layers.BatchNormalization)(name="first")(x)
    twice = layers.BatchNormalization(name="twice", momentum=0.8, epsilon=0.01, scale=False)
    x = layers.Add()([twice(x), twice(keras.ops.relu(x))])
    inside = keras.Sequential(
        [
            keras.Input((8, 8, 6)),
            layers.Conv2D(6, 3, padding="same"),
            layers.BatchNormalization(center=False, gamma_regularizer="l2"),
        ],
        name="inside",
    )
    x = layers.Dropout(0.2, seed=1)(layers.ReLU()(inside(x)))
    outputs = layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    return _compiled(keras.Model(inputs, outputs), **settings)


def _kernels(model):
    """How many fused kernels the graph of a train step has."""
    model.optimizer.build(model.trainable_variables)
    step = tf.function(fused.with_fused_normalization(model, model.train_step), autograph=False)
    step((IMAGES, LABELS))  # makes the variables of the metrics
    graph = step.get_concrete_function((IMAGES, LABELS)).graph
    return sum(operation.type == "FusedBatchNormV3" for operation in graph.get_operations())


@pytest.mark.parametrize("kind", ["sequential", "graph"])
def test_a_step_changes_the_weights_as_keras_does(kind):
    def make():
        return _graph() if kind == "graph" else _compiled(models.small_cnn((8, 8, 3), 4, seed=3))

    start, ours, theirs = make(), make(), make()
    settings = {"batch_size": ROWS, "shuffle": False, "verbose": 0, "class_weight": {0: 2.0}}
    history = fit(ours, IMAGES, LABELS, **settings).history
    expected = theirs.fit(IMAGES, LABELS, **settings).history

    assert {name: pytest.approx(values, rel=1e-5) for name, values in expected.items()} == history
    for before, mine, other in zip(start.weights, ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-6, err_msg=mine.path)
        if mine.path.endswith(("kernel", "moving_mean", "moving_variance")):
            assert np.abs(mine.numpy() - before.numpy()).max() > 1e-4, mine.path


def test_fit_uses_the_kernel(monkeypatch):
    calls, kernel = [], tf.compat.v1.nn.fused_batch_norm
    monkeypatch.setattr(tf.compat.v1.nn, "fused_batch_norm", lambda *args, **kw: calls.append(1) or kernel(*args, **kw))
    fit(_graph(), IMAGES, LABELS, batch_size=ROWS, verbose=0)
    assert calls


def test_all_normalizations_are_fused_and_the_model_stays_as_it_was(tmp_path):
    model = _graph()
    names = [layer.name for layer in model.layers]

    assert _kernels(model) == 4  # the one that is called twice is there twice
    once = [len(layer._outbound_nodes) for layer in model.layers]  # no public name tells where a layer was called
    assert _kernels(model) == 4
    assert [len(layer._outbound_nodes) for layer in model.layers] == once
    assert [layer.name for layer in model.layers] == names
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0))


class _OwnNormalization(keras.layers.BatchNormalization):
    pass


class _OwnModel(keras.Model):
    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=training, mask=mask)


@pytest.mark.parametrize(
    "settings",
    [
        {"synchronized": True},
        {"trainable": False},
        {"dtype": "float64"},
        {"dtype": "mixed_float16"},
        {"axis": 1},
        {"epsilon": 1e-6},
        {"activity_regularizer": "l2"},
    ],
    ids=lambda settings: "=".join(map(str, *settings.items())),
)
def test_what_the_kernel_cannot_do_is_left_to_keras(settings):
    assert _kernels(_graph(norm=functools.partial(keras.layers.BatchNormalization, **settings))) == 3


def test_a_normalization_of_ones_own_is_left_as_it_is():
    assert _kernels(_graph(norm=_OwnNormalization)) == 3


def test_other_models_keep_their_train_step():
    graph, stepping = _graph(), _graph()
    stepping.train_step = types.MethodType(lambda self, data: {}, stepping)
    sparse = keras.Input((4,), sparse=True)
    two = keras.Model([graph.input, sparse], keras.layers.Concatenate()([graph.output, keras.layers.Dense(1)(sparse)]))
    own = _compiled(_OwnModel(graph.input, graph.output))
    for model in (own, stepping, _compiled(two), _compiled(models.mlp((4,), 3))):
        assert fused.with_fused_normalization(model, model.train_step) == model.train_step
    for way in ("run_eagerly", "jit_compile"):
        model = _graph(**{way: True})
        assert fused.with_fused_normalization(model, model.train_step) == model.train_step


def test_a_layer_that_a_callback_freezes_is_frozen():
    model = _graph()
    layer = model.get_layer("first")
    freeze = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: setattr(layer, "trainable", False))
    fit(model, IMAGES, LABELS, batch_size=ROWS, verbose=0, callbacks=[freeze])
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(6))
    assert np.abs(model.get_layer("twice").moving_mean.numpy()).max() > 0


def test_images_of_whole_numbers_are_normalized():
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(inputs))
    model = _compiled(keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(x)))
    assert np.isfinite(fit(model, (IMAGES * 255).astype("uint8"), LABELS, verbose=0).history["loss"]).all()


@pytest.mark.filterwarnings("ignore:Layer 'flatten")  # it takes no masks, as Keras says
def test_masked_images_are_normalized_by_keras():
    inputs = keras.Input((8, 8, 3))
    masked = keras.layers.Masking()(inputs)
    x = keras.layers.BatchNormalization()(masked)
    outputs = keras.layers.Dense(4, activation="softmax")(keras.layers.Flatten()(x))
    assert _kernels(_compiled(keras.Model(inputs, outputs))) == 0


@pytest.mark.filterwarnings("ignore:Layer 'flatten")
def test_of_two_calls_of_a_layer_the_masked_one_is_left_to_keras():
    inputs = keras.Input((8, 8, 3))
    layer = keras.layers.BatchNormalization()
    x = keras.layers.Concatenate()([keras.layers.Flatten()(layer(x)) for x in (inputs, keras.layers.Masking()(inputs))])
    assert _kernels(_compiled(keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(x)))) == 1


def test_the_model_has_the_attributes_that_keras_leaves(tmp_path):
    """The fused graph must not take what Keras sets on the model while it trains."""
    models_ = [_graph() for _ in range(2)]
    for model, train in zip(models_, (fit, keras.Model.fit), strict=True):
        train(model, IMAGES, LABELS, batch_size=ROWS, shuffle=False, verbose=0)
    ours, theirs = (dict(vars(model)) for model in models_)
    # Beside `train_function`, where Keras keeps what it has traced, stands what masslib keeps.
    assert ours.keys() - theirs.keys() == {"_masslib_train_function"}
    assert theirs.keys() - ours.keys() <= {"_eval_epoch_iterator"}  # of Keras' own loop
    simple = (bool, int, float, type(None), list, tuple, dict)
    for name, value in theirs.items():
        if isinstance(value, simple) and name in ours and name != "train_function":
            assert type(ours[name]) is type(value), name
            assert isinstance(value, list | tuple | dict) or ours[name] == value, name


def test_an_attribute_that_train_step_sets_is_on_the_model(monkeypatch):
    step = keras.Model.train_step

    def telling(self, data):
        self.seen = True
        return step(self, data)

    monkeypatch.setattr(keras.Model, "train_step", telling)
    model = _graph()
    fit(model, IMAGES, LABELS, batch_size=ROWS, verbose=0)
    assert model.seen
    assert "call" not in vars(model)


@pytest.mark.slow
def test_without_fusion_every_bit_is_that_of_keras():
    results = []
    for train, settings in ((fit, {"fused": False}), (keras.Model.fit, {})):
        model = _graph()
        history = train(model, IMAGES, LABELS, batch_size=8, epochs=3, shuffle=False, verbose=0, **settings).history
        results.append([*history.values(), *model.get_weights(), *(v.numpy() for v in model.optimizer.variables)])
    for mine, other in zip(*results, strict=True):
        np.testing.assert_array_equal(mine, other)
