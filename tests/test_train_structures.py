"""Two workers give what one gives: several inputs and outputs with weights, texts, batches of one row."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import masslib

pytestmark = [pytest.mark.alone, pytest.mark.slow]


def _rows(count):
    rng = np.random.default_rng(0)
    x = {"picture": rng.normal(size=(count, 6, 6, 1)), "columns": rng.normal(size=(count, 5))}
    y = {"kind": rng.integers(0, 3, count), "price": rng.normal(size=(count, 1))}
    weights = {"kind": rng.random(count), "price": rng.random(count)}
    return x, y, weights


def _two_headed():
    picture, columns = keras.Input((6, 6, 1), name="picture"), keras.Input((5,), name="columns")
    hidden = layers.Flatten()(layers.Conv2D(4, 3, activation="relu", kernel_initializer=_init())(picture))
    hidden = layers.Concatenate()([hidden, layers.Dense(8, kernel_initializer=_init())(columns)])
    kind = layers.Dense(3, activation="softmax", name="kind", kernel_initializer=_init())(hidden)
    price = layers.Dense(1, name="price", kernel_initializer=_init())(hidden)
    model = keras.Model({"picture": picture, "columns": columns}, {"kind": kind, "price": price})
    model.compile(
        keras.optimizers.Adam(global_clipnorm=0.5),
        loss={"kind": "sparse_categorical_crossentropy", "price": "mse"},
        loss_weights={"kind": 1.0, "price": 0.3},
        metrics={"kind": ["accuracy"], "price": ["mae"]},
        weighted_metrics={"price": ["mse"]},
    )
    return model


def _init():
    return keras.initializers.GlorotUniform(seed=1)


class Text(keras.Model):
    """Word ids of varying length -> class; the padding of each replica is masked."""

    def __init__(self):
        super().__init__()
        self.embedding = layers.Embedding(20, 6, mask_zero=True, embeddings_initializer=_init())
        self.lstm = layers.LSTM(5, kernel_initializer=_init(), recurrent_initializer=_init())
        self.classify = layers.Dense(3, activation="softmax", kernel_initializer=_init())

    def call(self, words):
        return self.classify(self.lstm(self.embedding(words.to_tensor())))


def _texts(count):
    rng = np.random.default_rng(1)
    words = tf.ragged.constant([rng.integers(1, 20, rng.integers(2, 9)).tolist() for _ in range(count)])
    rows = tf.data.Dataset.from_tensor_slices((words, rng.integers(0, 3, count), rng.random(count)))
    return rows.shuffle(count, seed=2).batch(16)


def _sequences():
    """A layer on every place of a sequence: TensorFlow does not know the shape of its gradient."""
    words = keras.Input((7,), dtype="int32")
    hidden = layers.Embedding(20, 6, embeddings_initializer=_init())(words)
    hidden = layers.Dense(6, use_bias=False, kernel_initializer=_init())(hidden)
    model = keras.Model(
        words, layers.Dense(3, activation="softmax", kernel_initializer=_init())(layers.Flatten()(hidden))
    )
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    return model


class _Batches(keras.utils.PyDataset):
    def __init__(self):
        super().__init__(workers=2)
        self.rows = _rows(50)

    def __len__(self):
        return 7

    def __getitem__(self, index):
        return keras.tree.map_structure(lambda values: values[index * 8 : index * 8 + 8], self.rows)


def _found():
    """Weights, History and evaluation of every training."""
    keras.config.set_floatx("float64")
    strategy = masslib.strategy("multi_worker")
    count = 64
    x, y, weights = _rows(count)
    options = {"batch_size": 16, "epochs": 2, "verbose": 0}
    trained = {}

    def fitted(name, build, *data, **settings):
        with strategy.scope():
            model = build()
        history = masslib.fit(model, *data, **settings).history
        trained[name] = model, history

    def text():
        model = Text()
        model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
        return model

    valid = list(_rows(33))  # at 16 rows a batch, the last one has a single row
    fitted("weights", _two_headed, x, y, sample_weight=weights, validation_data=tuple(valid), **options)
    fitted("one weight", _two_headed, x, y, sample_weight=weights["kind"], validation_split=0.25, **options)
    steps = {"steps_per_epoch": 3, "validation_split": 0.25, "validation_steps": 1, "validation_batch_size": 9}
    fitted("steps", _two_headed, x, y, **steps, **options | {"epochs": 3, "initial_epoch": 1})
    fitted("PyDataset", _two_headed, _Batches(), epochs=2, verbose=0, validation_data=_Batches())
    fitted("text", text, _texts(64), epochs=2, verbose=0, validation_data=_texts(33))
    rng = np.random.default_rng(3)
    tokens = rng.integers(0, 20, (64, 7)), rng.integers(0, 3, 64)
    fitted("sequences", _sequences, *tokens, accumulate=2, **options)
    endless = _texts(64).repeat()
    fitted("endless text", text, endless, epochs=2, steps_per_epoch=3, verbose=0)
    found = {name: [*model.get_weights(), *history.values()] for name, (model, history) in trained.items()}
    model = trained["weights"][0]
    for name, data in {"arrays": valid, "PyDataset": [_Batches()]}.items():
        found[f"evaluated, {name}"] = list(masslib.evaluate_compiled(model, *data[:2], batch_size=16).values())
    words = trained["text"][0]
    found["evaluated, text"] = list(masslib.evaluate_compiled(words, _texts(33)).values())
    return found


@pytest.fixture(scope="module")
def one_worker():
    return masslib.launch(_found, workers=1, threads=1)[0]


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.exhaustive)])
def test_several_workers_equal_one_in_float64(one_worker, workers):
    for rank in masslib.launch(_found, workers=workers, threads=1):
        assert rank.keys() == one_worker.keys()
        for name, values in one_worker.items():
            for a, b in zip(values, rank[name], strict=True):
                tolerance = {"rtol": 1e-6} if np.ndim(a) < 2 and not isinstance(a, np.ndarray) else {"atol": 1e-10}
                np.testing.assert_allclose(a, b, err_msg=name, **{"rtol": 0} | tolerance)
