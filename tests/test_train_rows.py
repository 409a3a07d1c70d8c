"""Two replicas train on rows of any kind as one device does."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from masslib import fit, strategy

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(33, 5)).astype("float32")
CLASSES = RNG.integers(0, 3, 33)
WORDS = tf.ragged.constant([RNG.integers(1, 9, RNG.integers(1, 6)).tolist() for _ in range(32)], dtype="int32")
SPARSE = tf.sparse.from_dense(np.where(ROWS > 0, ROWS, 0)[:32])


def _words():
    inputs = keras.Input((None,), dtype="int32", ragged=True)
    return keras.Model(inputs, layers.Dense(3, "softmax")(layers.GlobalMaxPooling1D()(layers.Embedding(9, 4)(inputs))))


def _dense(**settings):
    return keras.Sequential([keras.Input((5,), **settings), layers.Dense(3, activation="softmax")])


def _trained(train, make, x, *, batch, replicas=1, **settings):
    with strategy("mirrored", devices=2).scope() if replicas == 2 else tf.distribute.get_strategy().scope():
        keras.utils.set_random_seed(0)
        model = make()
        model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    data = tf.data.Dataset.from_tensor_slices((x, CLASSES[: x.shape[0]])).batch(batch)
    history = train(model, data, epochs=2, shuffle=False, verbose=0, validation_data=data, **settings).history
    return np.array([*history.values()], "float64"), model.get_weights()


@pytest.mark.parametrize(
    ("make", "x"), [(_words, WORDS), (lambda: _dense(sparse=True), SPARSE)], ids=["ragged", "sparse"]
)
def test_ragged_and_sparse_rows_are_divided(make, x):
    (history, weights), (expected, keras_weights) = (
        _trained(fit, make, x, batch=8, replicas=2),
        _trained(keras.Model.fit, make, x, batch=8),
    )
    np.testing.assert_allclose(history, expected, rtol=1e-5)
    for mine, other in zip(weights, keras_weights, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-6)


def test_a_last_batch_of_one_row_trains():
    """Each replica computes it, so that the step is that of one device; the row alone is counted twice."""
    _, weights = _trained(fit, _dense, ROWS, batch=16, replicas=2)
    _, keras_weights = _trained(keras.Model.fit, _dense, ROWS, batch=16)
    for mine, other in zip(weights, keras_weights, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-6)


def test_batches_that_cannot_be_divided_are_evaluated_to_the_last_row():
    with strategy("mirrored", devices=2).scope():
        model = _dense()
        model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", metrics=["accuracy"])
    data = tf.data.Dataset.from_tensor_slices((ROWS, CLASSES)).batch(11)
    history = fit(model, data, verbose=0, validation_data=data).history
    alone = _dense()
    alone.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    alone.set_weights(model.get_weights())
    expected = alone.evaluate(ROWS, CLASSES, verbose=0)
    np.testing.assert_allclose([history["val_loss"][0], history["val_accuracy"][0]], expected, rtol=1e-5)


def test_class_weights_of_several_outputs_are_refused_as_in_keras():
    inputs = keras.Input((5,))
    model = keras.Model(inputs, {name: layers.Dense(3, name=name)(inputs) for name in "ab"})
    model.compile("sgd", "sparse_categorical_crossentropy")
    data = tf.data.Dataset.from_tensor_slices((ROWS, {"a": CLASSES, "b": CLASSES})).batch(11)
    with pytest.raises(ValueError, match="class_weight is only supported for models with a single output"):
        fit(model, data, class_weight={0: 2.0})
    for wrong, kind in ((np.ones(3), "ndarray"), ("balanced", "str")):
        with pytest.raises(TypeError, match=f"class_weight is a {kind}; expected a dict of classes"):
            fit(model, data, class_weight=wrong)
