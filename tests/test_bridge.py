import keras
import numpy as np
import pytest
import tf_keras
from keras import layers

from masslib import bridge, models
from masslib.bridge.equality import check_answers


def _randomized(model: keras.Model) -> keras.Model:
    rng = np.random.default_rng(7)
    model.set_weights([rng.uniform(0.1, 0.6, weight.shape) for weight in model.get_weights()])
    return model


def _two_inputs() -> keras.Model:
    image, row = keras.Input((16, 16, 3), name="image"), keras.Input((4,), name="row")
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = layers.Add()([x, layers.BatchNormalization()(x)])
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), row])
    shared = layers.Dense(12, activation="silu")
    x = layers.LeakyReLU(negative_slope=0.2)(shared(shared(x)))
    return keras.Model([image, row], [layers.Dense(3, activation="softmax")(x), x], name="two_inputs")


def _resnet() -> keras.Model:
    """Residual blocks, the second of them a model of its own inside of another, called twice."""
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(image)
    x = layers.Activation("relu")(layers.BatchNormalization(epsilon=1e-5)(x))
    y = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", kernel_regularizer="l2")(x))
    x = layers.ReLU()(layers.Add()([x, y]))
    inner_input = keras.Input((16, 16, 8))
    inner = keras.Sequential([layers.ZeroPadding2D(1), layers.Conv2D(8, 3, activation="elu")], name="body")
    block = keras.Model(inner_input, layers.Average()([inner(inner_input), inner_input]), name="block")
    x = layers.AveragePooling2D(2)(block(block(x)))
    x = layers.SpatialDropout2D(0.2)(layers.Cropping2D(1)(x))
    return keras.Model(image, layers.Dense(3, "softmax")(layers.GlobalMaxPooling2D()(x)), name="resnet")


def _depthwise() -> keras.Model:
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, activation="hard_silu")(image)
    x = layers.ReLU(max_value=6.0)(layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x))
    x = layers.SeparableConv2D(12, 3, activation="relu6")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(12, 1, activation="hard_sigmoid")(gate)
    x = layers.Multiply()([x, gate])
    x = layers.UpSampling2D()(layers.Conv2DTranspose(4, 3, strides=2, activation="leaky_relu")(x))
    x = layers.Permute((2, 1))(layers.Reshape((-1, 4))(x))
    x = layers.LayerNormalization()(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(3, activation="log_softmax")(x), name="depthwise")


@pytest.mark.parametrize(
    "build",
    [
        lambda: models.small_cnn((28, 28, 1), 10),
        lambda: models.lenet5((28, 28, 1), 10),
        lambda: models.mlp((28, 28, 1), 10),
        _two_inputs,
        _resnet,
        _depthwise,
    ],
    ids=["small_cnn", "lenet5", "mlp", "two_inputs", "resnet", "depthwise"],
)
def test_there_and_back_the_outputs_are_equal(build):
    model = _randomized(build())
    before = model.get_weights()
    twin = bridge.to_tf_keras(model)
    back = bridge.from_tf_keras(twin, like=model)
    rng = np.random.default_rng(0)
    inputs = [rng.random((5, *tensor.shape[1:]), "float32") for tensor in model.inputs]
    inputs = inputs if len(inputs) > 1 else inputs[0]
    answers = [keras.tree.flatten(m(inputs, training=False)) for m in (model, twin, back)]
    for expected, other, again in zip(*answers, strict=True):
        scale = np.abs(expected).max()
        assert np.abs(expected - other).max() <= bridge.TOLERANCE * scale
        assert np.abs(expected - again).max() == 0
    assert isinstance(twin, tf_keras.Model)
    assert isinstance(back, keras.Model)
    assert back is not model
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


@keras.saving.register_keras_serializable(package="test_bridge")
def cubed(x):
    return x**3


def test_every_unsupported_layer_is_listed_at_once():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Lambda(lambda x: x + 1, name="plus"),
            layers.Reshape((8, 1)),
            layers.GRU(4, activation=cubed, return_sequences=True, name="odd"),
            layers.LSTM(2, return_sequences=True, name="wraps"),
            layers.RNN(layers.StackedRNNCells([layers.LSTMCell(3)]), name="fine"),
            layers.Dense(2),
        ]
    )
    with pytest.raises(ValueError, match=r"2 layer\(s\) of .* no tf_keras counterpart") as caught:
        bridge.to_tf_keras(model)
    text = str(caught.value)
    assert "  plus: Lambda: it holds Python code that cannot be copied" in text
    assert "  odd: GRU: its activation is a function of your own, 'test_bridge>cubed'" in text
    assert "Replace these layers" in text


def test_activations_of_users_follow_their_layers():
    parts = [layers.Dense(4, activation=cubed, name="deep"), layers.Activation(cubed), layers.Reshape((4, 1))]
    model = keras.Sequential([keras.Input((8,)), *parts, layers.Conv1D(2, 3, activation=cubed, name="conv")])
    twin = bridge.to_tf_keras(model)
    rows = np.random.default_rng(0).normal(size=(5, 8)).astype("float32")
    np.testing.assert_allclose(twin(rows), model(rows), rtol=1e-4)
    assert twin.layers[-1].name == "conv_end"
    np.testing.assert_array_equal(bridge.from_tf_keras(twin, like=model)(rows), model(rows))


def test_layers_shared_between_models_are_listed_too():
    inputs = keras.Input((4,), name="row")
    shared = layers.Dense(4, name="shared")
    inner = keras.Sequential([keras.Input((4,)), shared], name="inner")
    with pytest.raises(ValueError, match=r"1 layer\(s\) of") as caught:
        bridge.to_tf_keras(keras.Model(inputs, inner(shared(inputs))))
    assert "inner/shared: it is the layer 'shared' as well" in str(caught.value)


def test_the_twin_is_flat_and_named_by_the_path():
    twin = bridge.to_tf_keras(_resnet())
    assert not any(isinstance(layer, tf_keras.Model) for layer in twin.layers)
    assert len([layer for layer in twin.layers if layer.name.startswith("block/body/")]) == 2


@pytest.mark.parametrize("name", ["hard_sigmoid", "hard_silu", "relu6", "silu", "gelu", "leaky_relu", "elu", "mish"])
def test_activations_mean_the_same_and_their_layers_can_be_copied(name):
    model = keras.Sequential([keras.Input((64,)), layers.Activation(name), layers.Dense(64, activation=name)])
    model.layers[-1].set_weights([np.eye(64), np.zeros(64)])
    twin = bridge.to_tf_keras(model)
    copy = tf_keras.models.clone_model(twin)
    copy.set_weights(twin.get_weights())
    x = np.linspace(-8, 8, 64, dtype="float32")[None]
    for other in (twin, copy):
        np.testing.assert_allclose(other(x), model(x), atol=1e-5)


def test_models_of_another_kind_are_refused():
    class Subclass(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    subclass = Subclass()
    subclass(np.zeros((1, 3), "float32"))
    with pytest.raises(TypeError, match="is a subclass .Subclass. whose graph cannot be read"):
        bridge.to_tf_keras(subclass)
    with pytest.raises(TypeError, match="expected a Keras 3 model, got tf_keras"):
        bridge.to_tf_keras(tf_keras.Sequential([tf_keras.layers.Dense(2)]))
    with pytest.raises(ValueError, match="has no weights yet; start it with keras.Input"):
        bridge.to_tf_keras(keras.Sequential([layers.Dense(2)]))


def test_weights_of_another_model_do_not_come_back():
    twin = bridge.to_tf_keras(models.mlp((4,), 3))
    with pytest.raises(ValueError, match=r"layer 'dense1' has weights of shapes .*, expected \[\(5, 300\)"):
        bridge.from_tf_keras(twin, like=models.mlp((5,), 3))
    with pytest.raises(ValueError, match="not have the same layers with weights: dense3"):
        bridge.from_tf_keras(twin, like=models.mlp((4,), 100, hidden=(300,)))


def test_optimizer_loss_and_metrics_cross():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    model.compile(
        optimizer=keras.optimizers.SGD(
            keras.optimizers.schedules.CosineDecay(0.1, 50), momentum=0.9, nesterov=True, clipnorm=2.0
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=2),
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(k=2, name="top2")],
    )
    twin = bridge.to_tf_keras(model)
    bridge.compile_like(twin, model)
    assert twin.optimizer.get_config()["learning_rate"]["class_name"] == "CosineDecay"
    assert (twin.optimizer.momentum, twin.optimizer.nesterov, twin.optimizer.clipnorm) == (0.9, True, 2.0)
    rng = np.random.default_rng(0)
    x, y = rng.random((32, 4), "float32"), rng.integers(0, 3, 32)
    ours, theirs = (
        model.evaluate(x, y, verbose=0, return_dict=True),
        twin.evaluate(x, y, verbose=0, return_dict=True),
    )
    assert ours.keys() == theirs.keys() == {"loss", "accuracy", "top2"}
    for name, value in ours.items():
        assert theirs[name] == pytest.approx(value, rel=1e-5)
    bridge.compile_like(twin, model, learning_rate=0.25)
    assert float(twin.optimizer.learning_rate) == 0.25


def test_an_uncompiled_model_has_no_loss_to_carry_over():
    model = models.mlp((4,), 3)
    with pytest.raises(ValueError, match="is not compiled, so its loss is unknown; call model.compile"):
        bridge.compile_like(bridge.to_tf_keras(model), model)


def test_an_output_that_is_not_a_number_is_no_agreement():
    numbers = keras.Input((4,))
    model = keras.Model(numbers, [numbers, numbers * 2])
    broken = keras.Model(numbers, [numbers, numbers * float("nan")])
    with pytest.raises(ValueError, match="disagree: relative difference nan"):
        check_answers(model, broken)
