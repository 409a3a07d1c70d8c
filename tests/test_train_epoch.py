"""Callbacks see in `fit` what they see in `model.fit`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from masslib import fit

RNG = np.random.default_rng(0)
DATA = tf.data.Dataset.from_tensor_slices((RNG.normal(size=(70, 6)).astype("float32"), RNG.integers(0, 3, 70)))
BATCHES = DATA.batch(10)
HOOKS = ("train_begin", "train_end", "epoch_begin", "epoch_end", "test_begin", "test_end")
HOOKS += ("train_batch_begin", "train_batch_end", "test_batch_begin", "test_batch_end")


class Watcher(keras.callbacks.Callback):
    """Notes every call with its number and its logs."""

    def __init__(self):
        super().__init__()
        self.seen = []


def _noting(hook):
    def note(self, *arguments, logs=None):
        *number, logs = arguments if logs is None else (*arguments, logs)
        self.seen.append((hook, *number, dict(logs or {})))

    return note


for _hook in HOOKS:
    setattr(Watcher, f"on_{_hook}", _noting(_hook))


def _model(**settings):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"], **settings)
    return model


def _both(make_callback, data=BATCHES, *, steps=1, eager=False, **settings):
    callbacks = []
    for train in (fit, keras.Model.fit):
        callbacks.append(make_callback())
        model = _model(steps_per_execution=steps, run_eagerly=eager)
        train(model, data, epochs=2, shuffle=False, verbose=0, callbacks=[callbacks[-1]], **settings)
    return callbacks


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("steps", [1, 3, 10])
def test_numbers_and_logs_of_batches_are_those_of_keras(steps, eager):
    ours, theirs = _both(Watcher, steps=steps, eager=eager, validation_data=BATCHES)
    assert ours.seen == theirs.seen


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_so_they_are_for_data_of_unknown_length():
    unknown = BATCHES.filter(lambda x, y: True)
    ours, theirs = _both(Watcher, unknown, steps=3)
    assert ours.seen == theirs.seen


@pytest.mark.parametrize("steps", [1, 3])
def test_a_checkpoint_every_few_batches_is_written_as_by_keras(steps, tmp_path):
    places = iter((tmp_path / "ours", tmp_path / "keras"))

    def make():
        file = next(places) / "{epoch}-{batch}-{loss:.4f}.weights.h5"
        return keras.callbacks.ModelCheckpoint(file, save_weights_only=True, save_freq=4)

    _both(make, steps=steps)
    ours, theirs = (sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("ours", "keras"))
    assert ours == theirs
    assert len(ours) == 3 if steps == 1 else ours


def test_tensorboard_writes_every_few_batches_what_it_writes_in_keras(tmp_path):
    places = iter((tmp_path / "ours", tmp_path / "keras"))
    _both(lambda: keras.callbacks.TensorBoard(next(places), update_freq=3, write_graph=False))

    def written(place):
        (file,) = (place / "train").iterdir()
        return [
            (event.step, value.tag, tf.make_ndarray(value.tensor).tolist())
            for event in tf.compat.v1.train.summary_iterator(str(file))
            for value in event.summary.value
            if value.tag.startswith("batch_")
        ]

    ours = written(tmp_path / "ours")
    assert [step for step, tag, _ in ours if tag == "batch_loss"] == [3, 6, 9, 12]
    assert ours == written(tmp_path / "keras")


def test_training_ends_at_the_batch_where_keras_ends_it():
    data = DATA.map(lambda x, y: (tf.where(y == 2, np.nan, x), y)).batch(10)
    models = []
    for train in (fit, keras.Model.fit):
        model = _model()
        settings = {"on_nan": "ignore"} if train is fit else {}
        train(model, data, shuffle=False, verbose=0, callbacks=[keras.callbacks.TerminateOnNaN()], **settings)
        models.append(model)
    assert [int(model.optimizer.iterations) for model in models] == [1, 1]


def test_logs_in_logs_are_flat_as_in_keras():
    class Own(keras.Model):
        def train_step(self, data):
            return {"here": 1.0, "there": {"inside": tf.shape(data[0])[0], "more": tf.constant([1.0, 2.0])}}

    histories = []
    for train in (fit, keras.Model.fit):
        inputs = keras.Input((6,))
        model = Own(inputs, layers.Dense(1)(inputs))
        model.compile()
        histories.append(train(model, BATCHES, shuffle=False, verbose=0).history)
    ours, theirs = histories
    assert ours.keys() == theirs.keys() == {"here", "inside", "more"}
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values)
