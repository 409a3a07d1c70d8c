"""What fit and compress are given: a network gets what Keras would give it."""

from __future__ import annotations

import keras
import numpy as np
import pandas
import pytest
import tensorflow as tf

import masslib
from masslib.data.passed import as_subset, passed

N = 6
COLUMN, WORDS = np.linspace(-1, 1, N), np.array(["a", "b c", "", "d", "e", "f"], object)
KINDS = {
    "float64": COLUMN,
    "float32 (n, 1)": COLUMN[:, None].astype(np.float32),
    "float16": COLUMN.astype(np.float16),
    "bfloat16": tf.zeros(N, tf.bfloat16),
    "big-endian": COLUMN.astype(">f8"),
    "tensor": tf.range(N),
    "int64": np.arange(N) - 2,
    "int64 (n, 1)": np.arange(N)[:, None] * 2**40,
    "uint8 images": np.zeros((N, 4, 4), np.uint8),
    "series": np.zeros((N, 12, 5), np.float32),
    "masks": np.zeros((N, 4, 4, 1), int),
    "multi-hot": np.eye(N, 3, dtype=int),
    "multi-hot bool": np.eye(N, 3) > 0,
    "complex": np.zeros((N, 2), np.complex64),
    "words": WORDS,
    "NaN": np.full((N, 2), np.nan),
    "pandas column": pandas.Series(np.arange(N)),
    "table": pandas.DataFrame({"a": COLUMN, "b": np.arange(N), "c": [True] * N}),
    "table of ints": pandas.DataFrame({"a": np.arange(N), "b": np.arange(N)}),
    "dict": {"b": np.arange(N), "a": COLUMN},
    "list": [np.arange(N), COLUMN[:, None]],
    "list of one": [np.arange(N)],
    "nested": {"a": (COLUMN, np.arange(N))},
}


def element(fit, x, y):
    """Structure, shapes, dtypes and values that a train_step sees."""
    seen = []

    class Watching(keras.Model):
        def __init__(self):
            super().__init__()
            self.weight = self.add_weight(shape=())

        def call(self, x):
            return x

        def train_step(self, data):
            seen.append(data)
            return {"loss": tf.constant(0.0)}

    model = Watching()
    model.compile("sgd", "mse", run_eagerly=True)
    fit(model, x, y, batch_size=N, shuffle=False, verbose=0)
    return keras.tree.map_structure(lambda tensor: (tensor.dtype.name, tensor.numpy().tolist()), seen[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_sees_what_keras_shows_it(kind):
    for x, y in ((KINDS[kind], None), (COLUMN, KINDS[kind])):
        np.testing.assert_equal(element(masslib.fit, x, y), element(keras.Model.fit, x, y))


def test_floatx_is_followed():
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        assert passed(COLUMN, COLUMN.astype(np.float32)).batches(2).element_spec[0].dtype == tf.float64
        assert passed(COLUMN, COLUMN.astype(np.float32)).y.dtype == np.float64
    finally:
        keras.config.set_floatx(before)


def test_validation_data_may_have_weights():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    weight = np.arange(N).astype("float32")
    history = masslib.fit(
        model, COLUMN, COLUMN, validation_data=(COLUMN, COLUMN[:, None], weight), batch_size=N, verbose=0
    )
    expected = model.evaluate(COLUMN, COLUMN[:, None], sample_weight=weight, verbose=0)
    assert history.history["val_loss"] == pytest.approx([expected], rel=1e-6)


def test_rows_are_taken_of_every_part():
    subset = passed({"a": COLUMN, "b": np.arange(N)}, (np.arange(N), COLUMN))
    x, y = subset.select(np.array([4, 1]))[:]
    assert (x["b"].tolist(), y[0].tolist()) == ([4, 1], [4, 1])
    assert subset.input_shape == {"a": (), "b": ()} and len(subset.sample(3)) == len(subset.take(3)) == 3
    assert repr(passed([[1, 2], [3, 4]], [0, 1])) == "Subset(2 rows of (2,), int64, labels int64)"
    assert as_subset(subset) is subset


@pytest.mark.parametrize(
    "x, y, error, words",
    [
        (COLUMN, COLUMN[:3], ValueError, r"different numbers of rows: {'x': 6, 'y': 3}; expected as many in each"),
        ([COLUMN, COLUMN[:2]], COLUMN, ValueError, r"different numbers of rows: {'x': \[2, 6\], 'y': 6}"),
        (None, COLUMN, TypeError, "x is None"),
        ("photos", None, TypeError, "x holds a str"),
        (tf.ragged.constant([[1]] * N), COLUMN, TypeError, "x holds a RaggedTensor.*from_tensor_slices"),
        (tf.sparse.from_dense(np.eye(N)), COLUMN, TypeError, "x holds a SparseTensor.*from_tensor_slices"),
        (COLUMN, np.array([1, "a"] * 3, object), TypeError, "y has dtype object, expected numbers"),
        (COLUMN[:0], COLUMN[:0], ValueError, r"x has shape \(0,\), expected"),
        (np.float32(3), COLUMN, ValueError, r"x has shape \(\), expected"),
    ],
)
def test_what_is_no_array_is_refused(x, y, error, words):
    with pytest.raises(error, match=words):
        passed(x, y)
    with pytest.raises(TypeError, match=r"data is a int; expected a Subset or a pair \(x, y\), with weights"):
        as_subset(3)
