"""What lives on a model and is in no config: twin and copy train as Keras trains it, or say what they cannot."""

import keras
import numpy as np
import pytest
from keras import layers

from masslib import LowRank, Prune, PruneChannels, bridge, compress
from masslib.graph.compiled import own_losses
from masslib.graph.copying import copied
from masslib.graph.nodes import named_layers

_ROWS = 32


def _model(*inner, shape=(6,), optimizer=None, loss="sparse_categorical_crossentropy", **settings):
    keras.utils.set_random_seed(0)
    inner = inner or (layers.Dense(8, name="first"),)
    model = keras.Sequential([keras.Input(shape), *inner, layers.Dense(3, activation="softmax", name="last")])
    model.compile(optimizer or keras.optimizers.SGD(0.1), loss, **settings)
    return model


def _with(change, *inner, **settings):
    model = _model(*inner, **settings)
    change(model)
    return model


def _nested(change):
    inner = [keras.Input((6,)), layers.Dense(8), layers.BatchNormalization(momentum=0.5), layers.Dense(8)]
    inner = keras.Sequential(inner, name="inner")
    change(inner)
    return _model(inner)


def _two_outputs(**settings):
    keras.utils.set_random_seed(0)
    row = keras.Input((6,))
    hidden = layers.Dense(8)(row)
    model = keras.Model(row, [layers.Dense(3, activation="softmax", name=name)(hidden) for name in "ab"])
    model.compile(keras.optimizers.SGD(0.1), **settings)
    return model


def _freeze_all_but_last(model):
    model.trainable = False
    model.layers[-1].trainable = True


def _set(path, value):
    *names, last = path.split(".")

    def change(model):
        owner = model
        for name in names:
            owner = model.get_layer(name) if owner is model and name in ("first", "last") else getattr(owner, name)
        setattr(owner, last, value)

    return change


class Weighted(keras.losses.Loss):
    """With an argument that its config lacks."""

    def __init__(self, weight=5.0):
        super().__init__()
        self.weight = weight

    def call(self, labels, answers):
        expected = keras.ops.one_hot(keras.ops.cast(labels, "int32"), 3)
        return self.weight * keras.ops.mean(keras.ops.square(expected - answers), -1)


def squared(labels, answers):
    return keras.ops.mean(keras.ops.square(keras.ops.one_hot(keras.ops.cast(labels, "int32"), 3) - answers), -1)


def _sgd(**settings):
    return keras.optimizers.SGD(0.1, **settings)


_DECAY = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
_L2 = keras.regularizers.L2(0.5)
_SCCE = "sparse_categorical_crossentropy"
CARRIED = {
    "frozen layer": lambda: _with(_set("first.trainable", False)),
    "frozen model inside": lambda: _nested(_set("trainable", False)),
    "frozen model inside but its last": lambda: _nested(_freeze_all_but_last),
    "frozen normalization inside": lambda: _nested(lambda inner: setattr(inner.layers[1], "trainable", False)),
    "frozen inside of a wrapper": lambda: _with(
        lambda model: setattr(model.get_layer("first").layer, "trainable", False),
        layers.TimeDistributed(layers.Dense(4), name="first"),
        layers.Flatten(),
        shape=(5, 6),
    ),
    "normalization": lambda: _model(layers.Dense(8), layers.BatchNormalization(momentum=0.5)),
    "learning rate": lambda: _with(_set("optimizer.learning_rate", 0.5), optimizer="sgd"),
    "optimizer": lambda: _with(_set("optimizer", keras.optimizers.SGD(0.5, momentum=0.9))),
    "clipping": lambda: _with(_set("optimizer.clipnorm", 0.01)),
    "schedule": lambda: _model(optimizer=keras.optimizers.SGD(_DECAY)),
    "weight decay": lambda: _model(optimizer=_sgd(weight_decay=0.5)),
    "sum": lambda: _model(loss=keras.losses.SparseCategoricalCrossentropy(reduction="sum")),
    "reduction": lambda: _with(_set("loss.reduction", "sum"), loss=keras.losses.SparseCategoricalCrossentropy()),
    "ignored class": lambda: _model(loss=keras.losses.SparseCategoricalCrossentropy(ignore_class=1)),
    "own function": lambda: _model(loss=squared),
    "own loss": lambda: _model(loss=Weighted()),
    "loss weights": lambda: _two_outputs(loss=[_SCCE, _SCCE], loss_weights=[0.1, 3.0]),
    "loss weights by name": lambda: _two_outputs(loss=dict.fromkeys("ab", _SCCE), loss_weights={"a": 0.1, "b": 3.0}),
    "weighted metrics": lambda: _model(weighted_metrics=["accuracy"]),
    "regularizers": lambda: _model(layers.Dense(8, kernel_regularizer="l2", bias_regularizer="l1")),
    "regularizer of the layer": lambda: _with(_set("first.kernel_regularizer", _L2)),  # without effect
    "regularizer of the weight": lambda: _with(_set("first.kernel.regularizer", _L2)),
    "no regularizer": lambda: _with(
        _set("first.kernel.regularizer", None), layers.Dense(8, kernel_regularizer="l2", name="first")
    ),
    "regularizer of a depthwise weight": lambda: _with(
        _set("first.kernel.regularizer", _L2), layers.DepthwiseConv1D(3, name="first"), layers.Flatten(), shape=(5, 2)
    ),
    "constraints": lambda: _model(layers.Dense(8, kernel_constraint="unit_norm", bias_constraint="non_neg")),
    "constraint of the layer": lambda: _with(_set("first.kernel_constraint", keras.constraints.MaxNorm(0.3))),
    "constraint of the weight": lambda: _with(_set("first.kernel.constraint", keras.constraints.MaxNorm(0.3))),
    "activity": lambda: _with(_set("first.activity_regularizer", _L2)),
    "activity of ReLU": lambda: _model(layers.Dense(8), layers.ReLU(activity_regularizer=_L2)),
    "activity of LSTM": lambda: _model(layers.LSTM(4, activity_regularizer="l2"), shape=(5, 6)),
    "float64": lambda: _model(layers.Dense(8, dtype="float64")),
    "mask": lambda: _model(layers.Masking(0.5), layers.LSTM(4), shape=(5, 6)),
    "spectral norm": lambda: _model(layers.SpectralNormalization(layers.Dense(8))),
}


def _data(model):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(_ROWS, *model.input_shape[1:])).astype("float32")
    x[:, -1:] = 0.5  # masked
    labels = [rng.integers(0, 3, _ROWS) for _ in model.outputs]
    if isinstance(model.loss, dict):
        return x, dict(zip(model.output_names, labels, strict=True))
    return x, labels[0] if len(labels) == 1 else labels


def _trained(model, data):
    model.run_eagerly = True  # traces cost more than these few steps
    model.fit(*data, batch_size=8, shuffle=False, verbose=0)
    return {name: layer.get_weights() for name, layer in named_layers(model).items() if layer.weights}


def _twin(model):
    twin = bridge.to_tf_keras(model)
    bridge.compile_like(twin, model, label_ndim=1)
    return twin


@pytest.mark.parametrize("name", CARRIED)
def test_twin_and_copy_train_as_the_model(name):
    model = CARRIED[name]()
    data = _data(model)
    others = [_twin(model)]
    if name != "own loss":  # whose config is incomplete
        others.append(copied(model))
    before = {name: layer.get_weights() for name, layer in named_layers(model).items() if layer.weights}
    ours = _trained(model, data)
    assert any(not np.array_equal(old, new) for key in ours for old, new in zip(before[key], ours[key], strict=True))
    for other in others:
        theirs = _trained(other, data)
        assert theirs.keys() == ours.keys()
        for key in ours:
            for a, b in zip(ours[key], theirs[key], strict=True):
                np.testing.assert_allclose(b, a, atol=1e-5, err_msg=f"{type(other).__module__} {key}")


class Frozen(keras.Model):
    def compute_loss(self, *args, **kwargs):
        return 3 * super().compute_loss(*args, **kwargs)


def _own_loss():
    row = keras.Input((6,))
    model = Frozen(row, layers.Dense(3)(row))
    model.compile("sgd", "mse")
    return model


def _half_frozen():
    layer = layers.Dense(4, name="first")
    return _with(lambda model: setattr(layer.bias, "trainable", False), layer)


def _regularized_inside():
    model = _model(layers.TimeDistributed(layers.Dense(4), name="first"), layers.Flatten(), shape=(5, 6))
    model.get_layer("first").layer.kernel.regularizer = _L2
    return model


REFUSED = {
    "half of a layer": (_half_frozen, "layer 'first' trains 1 of its 2 weights"),
    "model but its last": (
        lambda: _with(_freeze_all_but_last),
        "has trainable=False and its layer 'last' has trainable=True",
    ),
    "inside of a wrapper": (_regularized_inside, "the regularizer of '.*first/.*kernel' was set on the weight"),
    "own loss of a step": (_own_loss, "has its own compute_loss, which tf_keras cannot run"),
    "own regularizer": (
        lambda: _model(layers.Dense(8, kernel_regularizer=PerChannel([1.0] * 8), name="first")),
        "first: Dense: tf_keras has no PerChannel",
    ),
    "own function": (
        lambda: _model(layers.Dense(8, kernel_regularizer=squared, name="first")),
        "layer 'first' cannot be copied .*; decorate what it takes of your own",
    ),
    "schedule": (
        lambda: _model(optimizer=keras.optimizers.SGD(type("Own", (type(_DECAY).__mro__[1],), {})())),
        "compiled with cannot be copied",
    ),
    "reduction": (
        lambda: _model(loss=keras.losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight")),
        "mean_with_sample_weight",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_twin_cannot_train_is_named(name):
    make, told = REFUSED[name]
    with pytest.raises(ValueError, match=told):
        _twin(make())


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
@pytest.mark.parametrize(
    "settings",
    [
        {"loss": lambda labels, answers: squared(labels, answers)},
        {"loss": Weighted()},
        {"metrics": [type("Own", (keras.metrics.Mean,), {})()]},
        {"optimizer": keras.optimizers.SGD(lambda: 0.1)},
    ],
    ids=["lambda", "class", "metric", "rate"],
)
def test_what_a_copy_cannot_be_compiled_with_is_named(settings):
    what = next(iter(settings))
    with pytest.raises(ValueError, match=f"the {what} that model 'sequential.*' was compiled with cannot be copied"):
        copied(_model(**settings))


@keras.saving.register_keras_serializable()
class PerChannel(keras.regularizers.Regularizer):
    def __init__(self, factors):
        self.factors = factors

    def __call__(self, kernel):
        return keras.ops.sum(keras.ops.square(kernel) * self.factors)

    def get_config(self):
        return {"factors": self.factors}


def test_a_regularizer_of_every_channel_is_not_copied_to_fewer():
    inner = layers.Dense(8, kernel_regularizer=PerChannel([1.0] * 8), name="first")
    model = _model(inner, layers.Dense(8))
    with pytest.raises(
        ValueError, match=r"the regularizer of .* does not take a weight of shape \(6, 4\), only \(6, 8"
    ):
        compress(model, PruneChannels({"first": 0.5}, max_steps=1), _data(model), batch_size=8, verbose=False)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"kernel_constraint": "non_neg"}, "its constraint holds for one kernel"),
        ({"kernel_regularizer": "orthogonal_regularizer"}, "its OrthogonalRegularizer holds for one kernel"),
    ],
)
def test_what_holds_for_a_kernel_does_not_go_to_its_factors(setting, told):
    model = _model(layers.Dense(8, name="first", **setting))
    with pytest.raises(ValueError, match=told):
        compress(model, LowRank({"first": 2}, max_steps=1), _data(model), batch_size=8, verbose=False)


def test_averages_of_the_optimizer_stay_behind():
    model = _model(optimizer=_sgd(use_ema=True, ema_momentum=0.5))
    assert not _twin(model).optimizer.use_ema
    with own_losses(model):
        assert copied(model).optimizer.use_ema


@pytest.mark.parametrize("dense", [False, True])
def test_own_losses_see_the_labels_of_the_data(dense):
    seen = set()

    def loss(labels, answers):
        seen.add((*labels.shape[1:], getattr(labels.dtype, "name", labels.dtype)))
        return keras.ops.mean(answers, -1)

    model = _model(loss=loss)
    x, y = _data(model)
    y = np.eye(3, dtype="float32")[y] if dense else y
    compress(model, Prune(0.5, max_steps=1, min_share=0), (x, y), batch_size=8, verbose=False)
    assert seen == {(3, "float32") if dense else ("float32",)}
