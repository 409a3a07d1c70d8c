"""Recipes for networks of sequences: attention, embeddings, convolutions in time."""

import keras
import numpy as np
import pytest
from keras import layers

import masslib
from masslib import Cluster, LowRank, Prune, PruneChannels, QuantizeAware
from masslib.compression.steps.heads import with_heads

pytestmark = pytest.mark.slow

X = np.random.default_rng(0).integers(0, 40, (128, 12))
Y = (X[:, 0] < 20).astype(int)


def _transformer(attention=None):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12,), dtype="int32", name="words")
    x = layers.Embedding(40, 16, name="embedding")(inputs)
    attention = attention or layers.MultiHeadAttention(4, 4, dropout=0.1, name="attention")
    x = layers.LayerNormalization(name="norm")(layers.Add(name="residual")([x, attention(x, x)]))
    x = layers.Dense(16, name="back")(layers.Dense(32, "relu", name="wide")(x))
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    model = keras.Model(inputs, layers.Dense(2, "softmax", name="top")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def _series():
    keras.utils.set_random_seed(0)
    convolutions = [layers.Conv1D(8, 3, activation="relu", name="first"), layers.Conv1D(8, 3, name="second")]
    top = [layers.GlobalAveragePooling1D(), layers.Dense(2, "softmax", name="top")]
    model = keras.Sequential([keras.Input((12, 1)), *convolutions, *top])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def _kernels(aware):
    named = {weight.name: weight.numpy() for layer in aware.layers for weight in getattr(layer, "weights", ())}
    return [kernel for name, kernel in named.items() if name.endswith("kernel:0")]


KERNELS = ["attention/query", "attention/key", "attention/value", "attention/attention_output"]


def test_the_table_tells_what_is_inside_of_an_attention():
    table = masslib.diagnose(_transformer(), min_share=0)
    assert table.loc[KERNELS, ["prunes", "clusters", "quantizes", "factorizes"]].all().all()
    assert "LayerNormalization" in table.loc["norm", "why_not"]


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(Prune(0.5, min_share=0), id="prune"),
        pytest.param(Cluster(8, min_share=0), id="cluster", marks=pytest.mark.exhaustive),
    ],
)
def test_kernels_inside_of_an_attention_are_treated(step):
    small = masslib.compress(_transformer(), step, (X, Y), verbose=False)
    kernels = [w for w in small.model.get_layer("attention").get_weights() if w.ndim == 3]
    assert len(kernels) == 4
    for kernel in kernels:
        assert (kernel == 0).mean() == 0.5 if isinstance(step, Prune) else len(np.unique(kernel)) <= 8


def test_an_attention_is_factorized():
    model = _transformer()
    small = masslib.compress(model, LowRank({"attention/query": 7}, max_steps=1), (X, Y), verbose=False)
    assert small.model.get_layer("attention").get_layer("query_rank7").kernel.shape == (16, 7)
    small = masslib.compress(model, LowRank(4, max_steps=1), (X, Y), verbose=False)
    assert small.model.count_params() < model.count_params()


@pytest.mark.parametrize(
    ("attention", "heads"),
    [
        (lambda: layers.MultiHeadAttention(4, 4, name="attention"), 4),
        (lambda: layers.GroupQueryAttention(4, 8, 4, name="attention"), 4),
    ],
    ids=["one by one", "in groups"],
)
def test_heads_without_a_say_go_unnoticed(attention, heads):
    layer = attention()
    model = _transformer(layer)
    for variable in layer.weights:
        if variable.path.endswith("attention_output/kernel"):
            each = variable.shape[0] // heads
            variable.assign(np.where(np.arange(variable.shape[0])[:, None, None] // each == 1, 0, variable.numpy()))
    smaller, weights = with_heads(layer, np.array([0, 2, 3]))
    x = np.random.default_rng(0).random((2, 12, 16), "float32")
    smaller(x, x)
    smaller.set_weights(weights)
    np.testing.assert_allclose(smaller(x, x), layer(x, x), atol=1e-6)
    small = masslib.compress(model, PruneChannels(0.5, max_steps=1), (X, Y), verbose=False)
    assert small.model.count_params() < model.count_params()
    assert "attention" not in small.skipped


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "rows"), [(_transformer, X), (_series, X[..., None] / 40)], ids=["transformer", "series"]
)
@pytest.mark.parametrize(
    "before",
    [
        None,
        *(
            pytest.param(step, marks=pytest.mark.exhaustive)
            for step in (Prune(0.5, min_share=0), Cluster(8, min_share=0))
        ),
    ],
    ids=str,
)
def test_int8_files_of_sequences(build, rows, before, tmp_path):
    if before is not None and build is _transformer:
        before = type(before)({name: 0.5 if isinstance(before, Prune) else 8 for name in [*KERNELS, "wide", "back"]})
    small = masslib.compress(
        build(), [*([before] if before else []), QuantizeAware(epochs=2)], (rows, Y), batch_size=32, verbose=False
    )
    for kernel in _kernels(small.model)[:-1] if before else ():
        assert (kernel == 0).mean() >= 0.5 if isinstance(before, Prune) else len(np.unique(kernel)) <= 8
    assert {name for name, why in small.skipped.items() if "QuantizeAware" in why} <= {"norm"}
    file = masslib.export.tflite(small, tmp_path / "model.tflite", batch_size=1)
    answers = masslib.export.load(file).predict(rows)
    np.testing.assert_allclose(answers, small.model(rows), atol=0.05)
    small.save(tmp_path / "small")
    again = masslib.Compressed.load(tmp_path / "small")
    np.testing.assert_allclose(again.model(rows), small.model(rows), atol=1e-6)
