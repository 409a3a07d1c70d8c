"""Quantization-aware training of many kinds of layers: what `diagnose` says is what the step and the file do."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import masslib
from masslib import Cluster, Compressed, Prune, QuantizeAware, compress, export, measure

_rng = np.random.default_rng(0)
WORDS = _rng.integers(1, 60, (32, 10)).astype("int32")
PIXELS = _rng.random((32, 8, 8, 3), "float32")
LABELS = np.arange(32) % 2
ONCE = {"max_steps": 1, "learning_rate": 1e-6}


def _pooled(x):
    return (layers.GlobalAveragePooling1D() if len(x.shape) == 3 else layers.GlobalAveragePooling2D())(x)


def _embedded(x, units=8, **settings):
    return layers.Embedding(60, units, **settings)(x)


def _attention(x):
    return layers.MultiHeadAttention(2, 4)(x, x)


def _residual(x):
    return _pooled(layers.Add()([x, layers.Dense(8)(x)]))


def _shared(layer, x):
    return layers.Concatenate()([_pooled(layer(x)), _pooled(layer(layer(x)))])


def _nested(x):
    inner = keras.Sequential([keras.Input(x.shape[1:], dtype=x.dtype), layers.Embedding(60, 8), layers.Dense(6)])
    return _pooled(inner(x))


def _states(x):
    steps, *states = layers.LSTM(4, return_sequences=True, return_state=True, unroll=True)(_embedded(x))
    return layers.Concatenate()([_pooled(steps), *states])


def _squeezed(x):
    x = layers.Conv2D(4, 3)(x)
    gate = layers.Reshape((1, 1, 4))(layers.Dense(4, activation="sigmoid")(_pooled(x)))
    return _pooled(layers.Multiply()([x, gate]))


def _given_mask(x):
    return layers.GlobalAveragePooling1D()(layers.Dense(4)(_embedded(x)), mask=ops.not_equal(x, 7))


def _separable_residual(x):
    x = layers.Conv2D(4, 1)(x)
    return _pooled(layers.Add()([layers.SeparableConv2D(4, 3, padding="same")(layers.ReLU()(x)), x]))


ON_WORDS = {
    "flat": lambda x: layers.Flatten()(_embedded(x)),
    "dense": lambda x: _pooled(layers.Dense(8, activation="relu")(_embedded(x))),
    "gelu": lambda x: _pooled(layers.Dense(8, activation="gelu")(_embedded(x))),
    "silu": lambda x: _pooled(layers.Dense(8, activation="silu")(_embedded(x))),
    "residual": lambda x: _residual(_embedded(x)),
    "norm": lambda x: _pooled(layers.Dense(4)(layers.LayerNormalization()(layers.Dense(4)(_embedded(x))))),
    "prelu": lambda x: _pooled(layers.Dense(4)(layers.PReLU()(_embedded(x)))),
    "attention": lambda x: _pooled(_attention(_embedded(x))),
    "attention and dense": lambda x: _pooled(layers.Dense(4)(_attention(_embedded(x)))),
    "attention residual": lambda x: (lambda e: _pooled(layers.Add()([e, _attention(e)])))(_embedded(x)),
    "two embeddings": lambda x: _pooled(layers.Concatenate()([_embedded(x), _embedded(x, 3)])),
    "sum of embeddings": lambda x: _pooled(layers.Add()([_embedded(x), _embedded(x)])),
    "conv1d": lambda x: _pooled(layers.Conv1D(4, 3)(_embedded(x))),
    "separable conv1d": lambda x: _pooled(layers.Dense(3)(layers.SeparableConv1D(4, 3)(_embedded(x)))),
    "depthwise conv1d": lambda x: _pooled(layers.DepthwiseConv1D(3)(_embedded(x))),
    "pooling": lambda x: layers.GlobalMaxPooling1D()(layers.MaxPooling1D()(layers.Dense(4)(_embedded(x)))),
    "mask": lambda x: ops.mean(layers.Dense(4)(_embedded(x, mask_zero=True)), axis=1),
    "mask that is given": _given_mask,
    "integers reshaped": lambda x: _pooled(_embedded(layers.Reshape((10,))(layers.Flatten()(x)))),
    "integers rescaled": lambda x: layers.Dense(4)(layers.Rescaling(1 / 60)(x)),
    "half of an embedding": lambda x: _pooled(layers.Dense(4)(ops.split(_embedded(x), 2, axis=-1)[1])),
    "states": _states,
    "shared dense": lambda x: _shared(layers.Dense(8), _embedded(x)),
    "group norm": lambda x: _pooled(layers.Dense(4)(layers.GroupNormalization(2)(layers.Dense(4)(_embedded(x))))),
    "rms norm": lambda x: _pooled(layers.Dense(4)(layers.RMSNormalization()(layers.Dense(4)(_embedded(x))))),
    "einsum dense": lambda x: _pooled(layers.EinsumDense("abc,cd->abd", (None, 4))(_embedded(x))),
    "attention in groups": lambda x: _pooled((lambda e: layers.GroupQueryAttention(4, 4, 2)(e, e))(_embedded(x))),
    "lstm": lambda x: layers.LSTM(4, unroll=True)(layers.Dense(4)(_embedded(x))),
    "gru": lambda x: layers.GRU(4, unroll=True)(layers.Dense(4)(_embedded(x))),
    "bidirectional": lambda x: layers.Bidirectional(layers.LSTM(4, unroll=True))(layers.Dense(4)(_embedded(x))),
    "nested": _nested,
}
ON_PIXELS = {
    "conv": lambda x: _pooled(layers.Conv2D(4, 3, activation="relu")(x)),
    "conv and norm": lambda x: _pooled(layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3)(x)))),
    "dilated": lambda x: _pooled(layers.Conv2D(4, 3, dilation_rate=2)(x)),
    "depthwise": lambda x: _pooled(layers.ReLU(6.0)(layers.BatchNormalization()(layers.DepthwiseConv2D(3)(x)))),
    "transposed": lambda x: _pooled(layers.Conv2DTranspose(4, 3)(x)),
    "separable residual": _separable_residual,
    "squeeze": _squeezed,
    "rescaled": lambda x: _pooled(layers.Conv2D(4, 3)(layers.Rescaling(2.0)(x))),
    "shared conv": lambda x: _shared(layers.Conv2D(3, 3, padding="same"), x),
    "norm first": lambda x: _pooled(layers.Conv2D(4, 3)(layers.BatchNormalization()(x))),
    "dense on pixels": lambda x: layers.Flatten()(layers.Dense(2)(x)),
    "concatenated": lambda x: _pooled(layers.Concatenate()([layers.Conv2D(4, 3, padding="same")(x), x])),
}
TOGETHER = (
    *("dense", "silu", "residual", "attention and dense", "two embeddings", "mask", "half of an embedding"),
    *("conv and norm", "dilated", "separable residual", "shared conv", "squeeze", "concatenated"),
)


def _model(build, x):
    keras.utils.set_random_seed(0)
    entry = keras.Input(x.shape[1:], dtype=x.dtype)
    model = keras.Model(entry, layers.Dense(2, activation="softmax", name="out")(build(entry)))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def _agrees(model, x, folder):
    """What `diagnose` says, the step does, and the file holds."""
    table = masslib.diagnose(model)
    small = compress(model, QuantizeAware(**ONCE), (x, LABELS), batch_size=32, verbose=False)
    assert set(small.skipped) == set(table.index[~table["quantizes"]])
    for name, reason in small.skipped.items():
        assert reason.removeprefix(f"{small.steps[0]!r}: stays in float: ") in table.loc[name, "why_not"]
    path = export.tflite(small, folder / "aware.tflite", batch_size=1)
    answers = np.asarray(small.model(x))
    with export.load(path) as file:
        assert np.abs(file.predict(x) - answers).max() < 2e-2
    kernels = measure.sparsity(path)
    kernels = kernels[kernels["shape"].map(len) > 1]
    in_float = " ".join(kernels.index[kernels["dtype"] == "float32"])
    assert not [name for name in table.index[table["quantizes"]] if f"quant_{name}/" in in_float]
    assert "int8" in set(kernels["dtype"])
    small.save(folder / "small")
    np.testing.assert_array_equal(Compressed.load(folder / "small").model(x), answers)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kinds", "x"),
    [
        pytest.param(ON_WORDS, WORDS, id="words"),
        pytest.param(ON_PIXELS, PIXELS, id="pixels", marks=pytest.mark.exhaustive),
    ],
)
def test_diagnose_the_step_and_the_file_agree(kinds, x, tmp_path):
    """Several kinds as the branches of one model."""
    branches = [build for name, build in kinds.items() if name in TOGETHER]
    model = _model(lambda entry: layers.Concatenate()([branch(entry) for branch in branches]), x)
    _agrees(model, x, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [1, pytest.param(5, marks=pytest.mark.exhaustive)])
def test_what_is_concatenated_shares_one_range(columns, tmp_path):
    """Inputs, layers that stay in float, and quantized layers; TFMOT treats up to six together."""
    keras.utils.set_random_seed(0)
    numbers = [keras.Input((1,), name=f"number{index}") for index in range(columns)]
    word = keras.Input((1,), name="word", dtype="int32")
    deep = layers.Dense(4, activation="relu")(layers.Concatenate()([*numbers, layers.Flatten()(_embedded(word))]))
    hot = layers.CategoryEncoding(60, output_mode="one_hot", name="hot")(word)
    x = layers.Concatenate()([*numbers, hot, deep, layers.LayerNormalization(name="norm")(deep)])
    model = keras.Model([*numbers, word], layers.Dense(2, activation="softmax")(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    x = {number.name: _rng.normal(0, 2, (32, 1)).astype("float32") for number in numbers} | {"word": WORDS[:, :1]}
    small = compress(model, QuantizeAware(**ONCE), (x, LABELS), batch_size=32, verbose=False)
    assert set(small.skipped) == {"hot", "norm"}
    with export.load(export.tflite(small, tmp_path / "aware.tflite")) as file:
        assert np.abs(file.predict(x) - small.model(x)).max() < 2e-2


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [*ON_WORDS, *ON_PIXELS])
def test_each_kind_agrees(name, tmp_path):
    kinds, x = (ON_WORDS, WORDS) if name in ON_WORDS else (ON_PIXELS, PIXELS)
    _agrees(_model(kinds[name], x), x, tmp_path)


def test_the_names_of_layers_do_not_collide_with_those_that_tfmot_gives():
    """It splits a separable convolution into two layers, which tf_keras names by counting."""
    names = [f"conv2d_{number}" for number in range(40)]
    entry = keras.Input((8, 8, 3))
    x = layers.SeparableConv2D(4, 1)(entry)
    for name in names[:: len(names) // 4]:
        x = layers.Conv2D(x.shape[-1] + 1, 1, name=name)(x)
    model = keras.Model(entry, layers.Dense(2, activation="softmax")(_pooled(x)))
    model.compile("sgd", "sparse_categorical_crossentropy")
    small = compress(model, QuantizeAware(**ONCE), (PIXELS, LABELS), batch_size=32, verbose=False)
    assert not small.skipped


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("silu", "learns no range in front of its activation 'swish'"),
        ("mask", "called with a mask"),
        ("mask that is given", "called with a mask"),
        ("integers reshaped", "its input is int32"),
        ("shared dense", "it is called 3 times"),
    ],
)
def test_what_tfmot_cannot_do_is_foretold(kind, reason):
    table = masslib.diagnose(_model(ON_WORDS[kind], WORDS))
    assert table["why_not"].str.contains(reason).any()


def _small():
    entry = keras.Input((8, 8, 3))
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(8, 3, name="conv")(entry))
    x = layers.Conv2DTranspose(8, 3, name="up")(layers.ReLU(name="relu")(x))
    x = layers.Dense(16, activation="relu", name="hidden")(layers.GlobalAveragePooling2D(name="pool")(x))
    model = keras.Model(entry, layers.Dense(2, activation="softmax", name="out")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def test_chosen_layers_alone_are_quantized(tmp_path):
    step = QuantizeAware(layers=["conv", "relu", "out"], **ONCE)
    small = compress(_small(), step, (PIXELS, LABELS), batch_size=32, verbose=False)
    assert set(small.skipped) == {"up", "pool", "hidden"}  # the normalization is a part of the convolution
    assert small.skipped["hidden"] == f"{step!r}: stays in float: is not named"
    path = export.tflite(small, tmp_path / "some.tflite")
    kernels = measure.sparsity(path)
    found = {name.split("/")[1]: dtype for name, dtype in kernels["dtype"].items()}
    assert found["quant_conv"] == found["quant_out"] == "int8" and found["hidden"] == "float32"
    small.save(tmp_path / "small")
    again = Compressed.load(tmp_path / "small")
    assert again.steps == (step,)
    np.testing.assert_array_equal(again.model(PIXELS), small.model(PIXELS))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("conv", "layers='conv'.: expected names of layers"),
        ([], "expected names of layers"),
        ([3], "expected names of layers"),
        (["conv", "nothing"], "names nothing; the layers to choose from are conv, norm"),
        (["norm"], "names 'norm' without 'conv' before it, of which it becomes a part"),
    ],
)
def test_wrong_choices_are_told(names, message):
    with pytest.raises(ValueError, match=message):
        compress(_small(), QuantizeAware(layers=names, **ONCE), (PIXELS, LABELS), batch_size=32, verbose=False)


def test_layers_that_cannot_be_quantized_are_not_chosen():
    model = _model(ON_WORDS["norm"], WORDS)
    norm = next(layer.name for layer in model.layers if isinstance(layer, layers.LayerNormalization))
    with pytest.raises(ValueError, match=f"cannot treat: {norm}: TFMOT has no quantized form of LayerNormalization"):
        compress(model, QuantizeAware(layers=[norm]), (WORDS, LABELS), batch_size=32, verbose=False)


@pytest.mark.slow
@pytest.mark.parametrize("won", [Prune({"up": 0.5, "hidden": 0.5}, max_steps=2), Cluster({"up": 4}, max_steps=2)])
@pytest.mark.parametrize(
    "later",
    [
        QuantizeAware(layers=["conv", "out"], max_steps=4),
        pytest.param(Cluster({"out": 4}, max_steps=4), marks=pytest.mark.exhaustive),
        Prune({"out": 0.5}, max_steps=4),
    ],
)
def test_layers_that_a_step_leaves_alone_keep_what_earlier_ones_won(won, later):
    if later.order < won.order:
        pytest.skip("not in this order")
    model = _small()
    one, both = (
        compress(model, steps, (PIXELS, LABELS), batch_size=32, verbose=False) for steps in (won, [won, later])
    )
    before, after = (small.model.get_layer("up").get_weights()[0] for small in (one, both))
    np.testing.assert_array_equal(before, after)
    assert not np.array_equal(one.model.get_layer("out").get_weights()[0], model.get_layer("out").get_weights()[0])
