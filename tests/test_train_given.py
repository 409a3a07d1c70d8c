"""`fit` takes what `model.fit` takes, and refuses the rest in words."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import masslib

X, Y = np.random.default_rng(0).normal(size=(50, 4)).astype("float32"), np.arange(50) % 3
STILL = {"batch_size": 8, "epochs": 3, "verbose": 0, "shuffle": False}


def _model(**options):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"], **options)
    return model


class _Batches(keras.utils.PyDataset):
    def __init__(self, count=7, **options):
        super().__init__(**options)
        self.count, self.calls = count, []

    @property
    def num_batches(self):
        return self.count

    def __getitem__(self, index):
        place = index % 7 * 8
        return X[place : place + 8], Y[place : place + 8]

    def on_epoch_begin(self):
        self.calls.append("begin")

    def on_epoch_end(self):
        self.calls.append("end")


def _generator(count):
    for index in range(count):
        yield _Batches()[index]


@pytest.mark.parametrize(
    "options",
    [
        {"sample_weight": np.linspace(0, 1, 50)},
        {"validation_split": 0.2, "validation_steps": 1, "validation_batch_size": 4, "validation_freq": 2},
        {"validation_split": 0.2, "validation_freq": [1, 3]},
        {"initial_epoch": 2},
        {"steps_per_epoch": 3},
        {"steps_per_epoch": 9},
        {"steps_per_epoch": 5, "batch_size": None},
        {"class_weight": {0: 2.0, 2: 0.5}},
        {"batch_size": None},
        {"batch_size": 49},
    ],
    ids=str,
)
def test_equals_keras(options):
    """Weights and History, also where the data ends within an epoch or the last batch has one row."""
    with warnings.catch_warnings(action="ignore"):
        keras_model, ours = _model(), _model()
        expected = keras_model.fit(X, Y, **STILL | options).history
        found = masslib.fit(ours, X, Y, **STILL | options).history
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(values, found[name], rtol=1e-6, err_msg=name)
    for a, b in zip(keras_model.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (lambda: _Batches(), {}),
        (lambda: _Batches(workers=3), {}),
        (lambda: _Batches(None), {"steps_per_epoch": 7}),
        (lambda: (batch for _ in range(3) for batch in _generator(7)), {"steps_per_epoch": 7}),
        (lambda: _Loader(), {}),
        (lambda: tf.data.Dataset.from_tensor_slices((X, Y)).batch(8).repeat(), {"steps_per_epoch": 7}),
    ],
    ids=["PyDataset", "threads", "endless PyDataset", "generator", "loader", "endless dataset"],
)
def test_batches_of_any_kind_equal_arrays(data, options):
    arrays, batches = _model(), _model()
    masslib.fit(arrays, X, Y, **STILL)
    masslib.fit(batches, data(), epochs=3, verbose=0, shuffle=False, **options)
    for a, b in zip(arrays.get_weights(), batches.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


class _Loader:
    """Iterated over once per epoch, such as PyTorch's `DataLoader`."""

    def __iter__(self):
        return _generator(7)


def test_a_py_dataset_hears_of_epochs_and_resumes_exactly(tmp_path):
    data, whole, parts = _Batches(), _model(), _model()
    masslib.fit(whole, data, epochs=4, verbose=0)
    assert data.calls == ["begin", "end"] * 4
    masslib.fit(parts, _Batches(), epochs=2, verbose=0, checkpoint=tmp_path)
    masslib.fit(parts, _Batches(), epochs=4, verbose=0, checkpoint=tmp_path)
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_generator_that_ends_ends_the_training():
    with pytest.warns(UserWarning, match="the generator ended after 5 batches, in epoch 1 of 3; the training ends"):
        history = masslib.fit(_model(), _generator(5), epochs=3, verbose=0)
    assert len(history.history["loss"]) == 1


def test_negative_classes_have_weights():
    """An SVM's labels; the same as the weights of the rows."""
    labels = np.where(Y == 0, -1, 1)
    weights = np.where(labels == -1, 3.0, 0.5)
    found = []
    for options in ({"class_weight": {-1: 3.0, 1: 0.5}}, {"sample_weight": weights}):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile("sgd", "hinge")
        masslib.fit(model, X, labels, **STILL | options)
        found.append(model.get_weights())
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (lambda: (_Batches(None),), {}, "the PyDataset never ends; pass steps_per_epoch"),
        (lambda: (_Batches(), Y), {}, "y was passed beside a PyDataset, which holds the labels itself"),
        (lambda: (_Batches(),), {"validation_split": 0.1}, "validation_split cuts rows, and x is a PyDataset"),
        (lambda: (_generator(3),), {"checkpoint": "folder"}, "a generator, which cannot be read from its middle on"),
        (lambda: (X, Y), {"validation_data": _generator(3)}, "does not say where it ends; pass validation_steps"),
        (lambda: (X, Y), {"validation_split": 0.999}, "leaves 0 to train on"),
        (lambda: (X, Y), {"validation_freq": 0}, "validation_freq=0: expected a whole number of at least 1"),
        (lambda: (X, Y), {"initial_epoch": -1}, "initial_epoch=-1: expected a whole number of at least 0"),
        (lambda: (X, {"a": Y, "b": Y}), {"class_weight": {0: 1.0}}, "class_weight needs the labels of one output"),
    ],
)
def test_what_cannot_be_is_refused(data, options, words):
    with pytest.raises(ValueError, match=words):
        masslib.fit(_model(), *data(), **options)


def test_evaluate_compiled_equals_keras():
    model, weights = _model(), np.linspace(0, 1, 50)
    expected = model.evaluate(X, Y, sample_weight=weights, batch_size=7, verbose=0, return_dict=True)
    assert masslib.evaluate_compiled(model, X, Y, sample_weight=weights, batch_size=7) == expected
    expected = model.evaluate(_Batches(), verbose=0, return_dict=True)
    assert masslib.evaluate_compiled(model, _Batches()) == expected
