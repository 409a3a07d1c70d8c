"""Networks with several inputs or outputs."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

from zoo.network import ROWS, classifier, ids, images, network, normal, part
from zoo.parts import CTCLoss


def _table(rng):
    return {
        "age": normal(rng, 1),
        "hours": normal(rng, 1),
        "education": ids(rng, 5, 1),
        "country": ids(rng, 7, 1),
    }, ids(rng, 2, 1).astype("float32")


def _columns():
    inputs = {name: keras.Input((1,), name=name) for name in ("age", "hours")}
    return inputs | {name: keras.Input((1,), name=name, dtype="int32") for name in ("education", "country")}


@network(_table)
def wide_deep():
    inputs = _columns()
    hot = [
        layers.CategoryEncoding(size, output_mode="one_hot")(inputs[name])
        for name, size in (("education", 5), ("country", 7))
    ]
    wide = layers.BatchNormalization()(layers.concatenate([inputs["age"], inputs["hours"], *hot]))
    embedded = [
        layers.Flatten()(layers.Embedding(size, 4)(inputs[name])) for name, size in (("education", 5), ("country", 7))
    ]
    deep = layers.concatenate([inputs["age"], inputs["hours"], *embedded])
    for units in (16, 16):
        deep = layers.Dropout(0.1)(layers.ReLU()(layers.BatchNormalization()(layers.Dense(units)(deep))))
    outputs = layers.Dense(1, activation="sigmoid")(layers.concatenate([wide, deep]))
    return classifier(inputs, outputs, "binary_crossentropy", metrics=["accuracy"])


@network(_table)
def deep_cross():
    inputs = _columns()
    embedded = [
        layers.Flatten()(layers.Embedding(size, 4)(inputs[name])) for name, size in (("education", 5), ("country", 7))
    ]
    start = x = layers.concatenate([inputs["age"], inputs["hours"], *embedded])
    for _ in range(2):
        x = start * layers.Dense(10)(x) + x
    deep = layers.Dense(16, activation="relu")(start)
    outputs = layers.Dense(1, activation="sigmoid")(layers.concatenate([layers.BatchNormalization()(x), deep]))
    return classifier(inputs, outputs, "binary_crossentropy", metrics=["accuracy"])


@network(_table)
def tabtransformer():
    inputs = _columns()
    embedded = [layers.Embedding(size, 8)(inputs[name][:, 0]) for name, size in (("education", 5), ("country", 7))]
    x = ops.stack(embedded, axis=1)
    x = x + layers.Embedding(2, 8)(ops.arange(0, 2, 1))
    y = layers.MultiHeadAttention(2, 8, dropout=0.1)(x, x)
    x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([y, x]))
    y = layers.Dense(8, activation="gelu")(x)
    x = layers.Flatten()(layers.LayerNormalization(epsilon=1e-6)(layers.Add()([y, x])))
    numbers = layers.LayerNormalization()(layers.concatenate([inputs["age"], inputs["hours"]]))
    x = layers.Dense(16, activation="selu")(layers.concatenate([x, numbers]))
    return classifier(inputs, layers.Dense(1, activation="sigmoid")(x), "binary_crossentropy")


@network(lambda rng: ((images(rng, 12, 12, 1), images(rng, 12, 12, 1)), ids(rng, 2).astype("float32")))
def siamese_contrastive():
    tower = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.BatchNormalization(),
            layers.Conv2D(4, 5, activation="tanh"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(10, activation="tanh"),
        ]
    )
    inputs = [keras.Input((12, 12, 1)), keras.Input((12, 12, 1))]
    first, second = map(tower, inputs)
    squares = ops.sum(ops.square(first - second), axis=1, keepdims=True)
    distance = ops.sqrt(ops.maximum(squares, keras.config.epsilon()))
    outputs = layers.Dense(1, activation="sigmoid")(layers.BatchNormalization()(distance))

    def contrastive(y_true, y_pred):
        return ops.mean((1 - y_true) * ops.square(y_pred) + y_true * ops.square(ops.maximum(1 - y_pred, 0)))

    return classifier(inputs, outputs, contrastive, optimizer="rmsprop")


@network(lambda rng: (images(rng, 16, 16, 3), {"kind": ids(rng, 4), "box": images(rng, 4)}))
def multi_task():
    inputs = keras.Input((16, 16, 3))
    x = layers.MaxPooling2D(2)(layers.Conv2D(8, 3, activation="relu")(inputs))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(16, 3, activation="relu")(x))
    outputs = {
        "kind": layers.Dense(4, activation="softmax", name="kind")(x),
        "box": layers.Dense(4, name="box")(layers.Dense(16, activation="relu")(x)),
    }
    return classifier(
        inputs,
        outputs,
        {"kind": "sparse_categorical_crossentropy", "box": "mse"},
        loss_weights={"kind": 1.0, "box": 0.5},
        metrics={"kind": ["accuracy"], "box": ["mae"]},
    )


@network(
    lambda rng: (
        {"title": ids(rng, 50, 6), "body": ids(rng, 50, 12), "tags": images(rng, 5)},
        {"priority": images(rng, 1), "department": ids(rng, 4)},
    )
)
def tickets():
    """The network of the guide to the functional API, of several inputs and outputs."""
    inputs = {
        "title": keras.Input((None,), dtype="int32", name="title"),
        "body": keras.Input((None,), dtype="int32", name="body"),
        "tags": keras.Input((5,), name="tags"),
    }
    title = layers.LSTM(8)(layers.Embedding(50, 8)(inputs["title"]))
    body = layers.LSTM(8)(layers.Embedding(50, 8)(inputs["body"]))
    x = layers.concatenate([title, body, inputs["tags"]])
    outputs = {
        "priority": layers.Dense(1, activation="sigmoid", name="priority")(x),
        "department": layers.Dense(4, name="department")(x),
    }
    loss = {
        "priority": keras.losses.BinaryCrossentropy(),
        "department": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    }
    return classifier(inputs, outputs, loss, loss_weights={"priority": 1.0, "department": 0.2})


@network(lambda rng: ({"user": ids(rng, 20), "item": ids(rng, 30)}, images(rng, 1)))
def two_tower():
    inputs = {name: keras.Input((), name=name, dtype="int32") for name in ("user", "item")}
    towers = []
    for name, size in (("user", 20), ("item", 30)):
        x = layers.Dense(16, activation="relu")(layers.Embedding(size, 8)(inputs[name]))
        towers.append(layers.UnitNormalization()(layers.Dense(8)(x)))
    outputs = layers.Dense(1, activation="sigmoid")(layers.Dot(axes=1)(towers))
    return classifier(inputs, outputs, "mse")


class RecommenderNet(keras.Model):
    """Products of the embeddings of users and movies."""

    def __init__(self, users, movies, width):
        super().__init__()
        self.users, self.user_bias = layers.Embedding(users, width), layers.Embedding(users, 1)
        self.movies, self.movie_bias = layers.Embedding(movies, width), layers.Embedding(movies, 1)

    def call(self, inputs):
        user, movie = inputs[:, 0], inputs[:, 1]
        similar = ops.sum(self.users(user) * self.movies(movie), axis=1, keepdims=True)
        return ops.sigmoid(similar + self.user_bias(user) + self.movie_bias(movie))


@network(lambda rng: (np.stack([ids(rng, 20), ids(rng, 30)], 1), images(rng, 1)))
def recommender():
    model = RecommenderNet(20, 30, 8)
    model.compile(loss="binary_crossentropy", optimizer="adam")
    return model


@network(
    lambda rng: ({"image": images(rng, 16, 24, 1), "label": 1 + ids(rng, 9, 4)}, None),
    deployed=lambda model: part(model.inputs[0], model.get_layer("dense2").output, keras.losses.CTC()),
    deployed_rows=lambda rows: (rows[0]["image"], rows[0]["label"]),
)
def captcha_ocr():
    image = keras.Input((16, 24, 1), name="image")
    label = keras.Input((None,), name="label", dtype="int32")
    x = layers.MaxPooling2D(2)(layers.Conv2D(8, 3, activation="relu", padding="same")(image))
    x = layers.Dense(16, activation="relu")(layers.Reshape((12, 64))(layers.Permute((2, 1, 3))(x)))
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True, dropout=0.25))(x)
    x = layers.Dense(11, activation="softmax", name="dense2")(x)
    model = keras.Model([image, label], CTCLoss(name="ctc")(label, x))
    model.compile(optimizer="adam")
    return model


class MILAttention(layers.Layer):
    """Weights of the instances of a bag."""

    def __init__(self, width, gated=True, **kwargs):
        super().__init__(**kwargs)
        self.width, self.gated = width, gated

    def build(self, shape):
        width = shape[0][-1]
        self.v = self.add_weight(shape=(width, self.width), initializer="glorot_uniform", name="v")
        self.w = self.add_weight(shape=(self.width, 1), initializer="glorot_uniform", name="w")
        self.u = self.add_weight(shape=(width, self.width), initializer="glorot_uniform", name="u")

    def call(self, inputs):
        scores = [ops.tensordot(self._gate(instance), self.w, axes=1) for instance in inputs]
        weights = ops.softmax(ops.stack(scores), axis=0)
        return [weights[i] for i in range(len(inputs))]

    def _gate(self, x):
        return ops.tanh(ops.tensordot(x, self.v, axes=1)) * ops.sigmoid(ops.tensordot(x, self.u, axes=1))


@network(lambda rng: ([images(rng, 12, 12) for _ in range(3)], ids(rng, 2)))
def attention_mil():
    inputs = [keras.Input((12, 12)) for _ in range(3)]
    first, second = layers.Dense(16, activation="relu"), layers.Dense(8, activation="relu")
    embedded = [second(first(layers.Flatten()(one))) for one in inputs]
    weights = MILAttention(8, name="alpha")(embedded)
    parts = [layers.multiply([weight, one]) for weight, one in zip(weights, embedded, strict=True)]
    return classifier(inputs, layers.Dense(2, activation="softmax")(layers.concatenate(parts, axis=1)))


@network(lambda rng: ([images(rng, 16, 16, 3), images(rng, 1, 1, 1)], images(rng, 16, 16, 3)))
def ddim_unet():
    def sinusoidal(x):
        speeds = 2 * np.pi * np.exp(np.linspace(0, 4, 4)).astype("float32")
        return ops.concatenate([ops.sin(speeds * x), ops.cos(speeds * x)], axis=3)

    noisy, variances = keras.Input((16, 16, 3)), keras.Input((1, 1, 1))
    e = layers.Lambda(sinusoidal, output_shape=(1, 1, 8))(variances)
    e = layers.UpSampling2D(16, interpolation="nearest")(e)
    x = layers.Concatenate()([layers.Conv2D(8, 1)(noisy), e])

    def residual(x, width):
        kept = x if x.shape[3] == width else layers.Conv2D(width, 1)(x)
        x = layers.BatchNormalization(center=False, scale=False)(x)
        x = layers.Conv2D(width, 3, padding="same", activation="swish")(x)
        return layers.Add()([layers.Conv2D(width, 3, padding="same")(x), kept])

    skip = residual(x, 8)
    x = residual(layers.AveragePooling2D(2)(skip), 16)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = residual(layers.Concatenate()([x, skip]), 8)
    outputs = layers.Conv2D(3, 1, kernel_initializer="zeros")(x)
    return classifier([noisy, variances], outputs, "mae")


@network(lambda rng: (normal(rng, 4), {"action": ids(rng, 2), "value": normal(rng, 1)}))
def actor_critic():
    inputs = keras.Input((4,))
    x = layers.Dense(32, activation="relu")(inputs)
    outputs = {
        "action": layers.Dense(2, activation="softmax", name="action")(x),
        "value": layers.Dense(1, name="value")(x),
    }
    return classifier(inputs, outputs, {"action": "sparse_categorical_crossentropy", "value": "huber"})


@network(
    lambda rng: (
        {"age": normal(rng, 1), "workclass": np.array([["private"], ["state"], ["none"]] * (ROWS // 3), dtype=object)},
        ids(rng, 2, 1).astype("float32"),
    )
)
def text_columns():
    """Structured data whose words are looked up inside of the model."""
    inputs = {"age": keras.Input((1,), name="age"), "workclass": keras.Input((1,), name="workclass", dtype="string")}
    hot = layers.StringLookup(vocabulary=["private", "state"], output_mode="one_hot")(inputs["workclass"])
    x = layers.Dense(16, activation="relu")(layers.concatenate([inputs["age"], hot]))
    return classifier(inputs, layers.Dense(1, activation="sigmoid")(x), "binary_crossentropy")
