"""Networks for series, sound, tables and graphs."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

from zoo.network import ROWS, classifier, ids, images, network, normal


@network(lambda rng: (normal(rng, 30, 1), ids(rng, 2)))
def timeseries_transformer():
    inputs = keras.Input((30, 1))
    x = inputs
    for _ in range(2):
        y = layers.MultiHeadAttention(key_dim=8, num_heads=2, dropout=0.1)(x, x)
        residual = layers.LayerNormalization(epsilon=1e-6)(layers.Dropout(0.1)(y)) + x
        y = layers.Conv1D(4, 1, activation="relu")(residual)
        x = layers.LayerNormalization(epsilon=1e-6)(layers.Conv1D(1, 1)(layers.Dropout(0.1)(y))) + residual
    x = layers.GlobalAveragePooling1D(data_format="channels_last")(x)
    return classifier(inputs, layers.Dense(2, activation="softmax")(layers.Dense(16, activation="relu")(x)))


@network(lambda rng: (normal(rng, 30, 1), ids(rng, 2)))
def timeseries_conv():
    inputs = keras.Input((30, 1))
    x = inputs
    for _ in range(2):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv1D(16, 3, padding="same")(x)))
    return classifier(inputs, layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling1D()(x)))


@network(lambda rng: (normal(rng, 32, 1), normal(rng, 32, 1)))
def timeseries_anomaly():
    inputs = keras.Input((32, 1))
    x = layers.Conv1D(8, 7, padding="same", strides=2, activation="relu")(inputs)
    x = layers.Dropout(0.2)(x)
    x = layers.Conv1DTranspose(8, 7, padding="same", strides=2, activation="relu")(x)
    return classifier(inputs, layers.Conv1DTranspose(1, 7, padding="same")(x), "mse")


@network(lambda rng: (normal(rng, 12, 7), normal(rng, 1)))
def weather_lstm():
    inputs = keras.Input((12, 7))
    return classifier(inputs, layers.Dense(1)(layers.LSTM(16)(inputs)), "mse")


@network(lambda rng: (normal(rng, 64, 1), ids(rng, 4)))
def speaker_cnn():
    def block(x, filters):
        before = layers.Conv1D(filters, 1, padding="same")(x)
        x = layers.Conv1D(filters, 3, padding="same")(
            layers.Activation("relu")(layers.Conv1D(filters, 3, padding="same")(x))
        )
        return layers.MaxPool1D(2, strides=2)(layers.Activation("relu")(layers.Add()([x, before])))

    inputs = keras.Input((64, 1))
    x = layers.AveragePooling1D(3, strides=3)(block(block(inputs, 8), 16))
    x = layers.Dense(16, activation="relu")(layers.Flatten()(x))
    return classifier(inputs, layers.Dense(4, activation="softmax")(x))


@network(lambda rng: (images(rng, 256), ids(rng, 4)))
def speech_spectrogram():
    """Commands of one word, whose spectrogram is made inside of the model."""
    inputs = keras.Input((256,))
    real, imaginary = ops.stft(inputs, sequence_length=64, sequence_stride=32, fft_length=64)
    x = ops.expand_dims(ops.sqrt(ops.square(real) + ops.square(imaginary) + 1e-6), -1)
    x = layers.MaxPooling2D(2)(layers.Conv2D(8, 3, activation="relu")(x))
    return classifier(inputs, layers.Dense(4, activation="softmax")(layers.Flatten()(x)))


@network(lambda rng: (normal(rng, 29), ids(rng, 2, 1)))
def imbalanced_dense():
    inputs = keras.Input((29,))
    x = layers.Dense(32, activation="relu")(inputs)
    x = layers.Dropout(0.3)(layers.Dense(32, activation="relu")(x))
    return classifier(inputs, layers.Dense(1, activation="sigmoid")(x), "binary_crossentropy")


class GraphConv(layers.Layer):
    """A convolution over the neighbours in a graph of sensors."""

    def __init__(self, adjacency, width):
        super().__init__()
        self.adjacency, self.width = adjacency, width

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.width), name="kernel")

    def call(self, x):
        return ops.relu(ops.einsum("nm,btmf->btnf", self.adjacency, ops.matmul(x, self.kernel)))


@network(lambda rng: (normal(rng, 6, 5, 1), normal(rng, 3, 5)))
def traffic_gcn():
    adjacency = np.random.default_rng(1).random((5, 5)).astype("float32")
    inputs = keras.Input((6, 5, 1))
    x = ops.transpose(GraphConv(adjacency / adjacency.sum(1, keepdims=True), 4)(inputs), (0, 2, 1, 3))
    x = layers.LSTM(8)(ops.reshape(x, (-1, 6, 4)))
    x = ops.transpose(ops.reshape(layers.Dense(3)(x), (-1, 5, 3)), (0, 2, 1))
    return classifier(inputs, x, "mse")


class GraphAttention(keras.Model):
    """Attention over the edges of one graph, whose nodes are the rows."""

    def __init__(self, states, edges, width, classes):
        super().__init__()
        self.states, self.edges = states, edges
        self.project, self.score, self.head = layers.Dense(width), layers.Dense(1), layers.Dense(classes)

    def call(self, nodes):
        source, target = self.edges[:, 0], self.edges[:, 1]
        states = self.project(self.states)
        pairs = ops.concatenate([ops.take(states, source, axis=0), ops.take(states, target, axis=0)], axis=-1)
        scores = ops.exp(ops.clip(ops.leaky_relu(self.score(pairs)[:, 0]), -2.0, 2.0))
        sums = ops.segment_sum(scores, target, num_segments=len(self.states)) + 1e-6
        weights = scores / ops.take(sums, target)
        messages = ops.take(states, source, axis=0) * weights[:, None]
        found = ops.segment_sum(messages, target, num_segments=len(self.states))
        return self.head(ops.take(ops.relu(found), nodes, axis=0))


@network(lambda rng: (rng.permutation(ROWS).astype("int32"), ids(rng, 3)))
def graph_attention():
    rng = np.random.default_rng(1)
    edges = rng.integers(0, ROWS, (80, 2)).astype("int32")
    model = GraphAttention(rng.normal(size=(ROWS, 8)).astype("float32"), edges, 8, 3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="sgd", loss=loss, metrics=["accuracy"])
    return model


@network(lambda rng: (normal(rng, 20), ids(rng, 2).astype("float32")))
def gated_residual():
    """Gated residual units, as of the example that selects variables."""
    inputs = keras.Input((20,))
    x = layers.Dense(16)(inputs)
    for _ in range(2):
        y = layers.Dropout(0.1)(layers.Dense(16)(layers.Dense(16, activation="elu")(x)))
        y = layers.Multiply()([layers.Dense(16)(y), layers.Dense(16, activation="sigmoid")(y)])
        x = layers.LayerNormalization()(layers.Add()([x, y]))
    return classifier(inputs, layers.Dense(1, activation="sigmoid")(x), "binary_crossentropy")


@network(lambda rng: (normal(rng, 16, 3), ids(rng, 4)))
def pointnet():
    """Point clouds: shared dense layers, the largest over the points, and a learnt transformation."""

    def transformed(x, features):
        y = layers.GlobalMaxPooling1D()(layers.Conv1D(8, 1, activation="relu")(x))
        y = layers.Dense(
            features * features, kernel_initializer="zeros", activity_regularizer=keras.regularizers.L2(1e-3)
        )(y)
        return layers.Dot(axes=(2, 1))([x, layers.Reshape((features, features))(y)])

    inputs = keras.Input((16, 3))
    x = layers.Conv1D(8, 1, activation="relu")(transformed(inputs, 3))
    x = layers.GlobalMaxPooling1D()(layers.BatchNormalization(momentum=0.0)(x))
    return classifier(inputs, layers.Dense(4, activation="softmax")(layers.Dropout(0.3)(x)))
