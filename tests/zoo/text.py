"""Networks that read words."""

from __future__ import annotations

import keras
from keras import layers, ops

from zoo.network import classifier, ids, images, network
from zoo.parts import TokenAndPositionEmbedding, TransformerBlock

WORDS, LENGTH = 60, 12


def reviews(rng):
    """Rows of words with a class each."""
    return ids(rng, WORDS, LENGTH), ids(rng, 2)


def tagged(rng):
    """Rows of words with a label for each."""
    return ids(rng, WORDS, LENGTH), ids(rng, WORDS, LENGTH)


@network(reviews)
def bilstm_imdb():
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(WORDS, 16)(inputs)
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(x)
    x = layers.Bidirectional(layers.LSTM(8))(x)
    return classifier(inputs, layers.Dense(1, activation="sigmoid")(x), "binary_crossentropy", metrics=["accuracy"])


@network(reviews)
def text_transformer():
    inputs = keras.Input((LENGTH,))
    x = TokenAndPositionEmbedding(LENGTH, WORDS, 16)(inputs)
    x = layers.GlobalAveragePooling1D()(TransformerBlock(16, 2, 16)(x))
    x = layers.Dropout(0.1)(layers.Dense(16, activation="relu")(layers.Dropout(0.1)(x)))
    return classifier(inputs, layers.Dense(2, activation="softmax")(x))


@network(reviews)
def text_conv1d():
    inputs = keras.Input((None,), dtype="int64")
    x = layers.Dropout(0.5)(layers.Embedding(WORDS, 16)(inputs))
    for _ in range(2):
        x = layers.Conv1D(16, 3, padding="valid", activation="relu", strides=2)(x)
    x = layers.Dense(16, activation="relu")(layers.GlobalMaxPooling1D()(x))
    outputs = layers.Dense(1, activation="sigmoid", name="predictions")(x)
    return classifier(inputs, outputs, "binary_crossentropy", metrics=["accuracy"])


@network(lambda rng: (ids(rng, WORDS, LENGTH), (images(rng, 5) > 0.5).astype("float32")))
def multi_label():
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(WORDS, 16, mask_zero=True)(inputs))
    outputs = layers.Dense(5, activation="sigmoid")(layers.Dense(16, activation="relu")(x))
    return classifier(inputs, outputs, "binary_crossentropy", metrics=["binary_accuracy"])


@network(tagged)
def ner_transformer():
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = TransformerBlock(16, 2, 16)(TokenAndPositionEmbedding(LENGTH, WORDS, 16)(inputs))
    outputs = layers.Dense(WORDS, activation="softmax")(layers.Dropout(0.1)(x))

    def without_padding(y_true, y_pred):
        loss = keras.losses.sparse_categorical_crossentropy(y_true, y_pred)
        mask = ops.cast(y_true > 0, loss.dtype)
        return ops.sum(loss * mask) / ops.sum(mask)

    return classifier(inputs, outputs, without_padding)


@network(tagged)
def miniature_gpt():
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = TransformerBlock(16, 2, 32, causal=True)(TokenAndPositionEmbedding(LENGTH, WORDS, 16)(inputs))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return classifier(inputs, layers.Dense(WORDS)(x), loss)


@network(lambda rng: ([images(rng, 8, 10), images(rng, 9, 12)], images(rng, 9, 12)))
def lstm_seq2seq():
    encoded, decoded = keras.Input((None, 10)), keras.Input((None, 12))
    _, *states = layers.LSTM(16, return_state=True)(encoded)
    x, _, _ = layers.LSTM(16, return_sequences=True, return_state=True)(decoded, initial_state=states)
    outputs = layers.Dense(12, activation="softmax")(x)
    return classifier([encoded, decoded], outputs, "categorical_crossentropy", optimizer="rmsprop")


@network(lambda rng: ({"english": ids(rng, WORDS, 8), "spanish": ids(rng, WORDS, 9)}, ids(rng, WORDS, 9)))
def translation_transformer():
    inputs = {name: keras.Input((None,), dtype="int64", name=name) for name in ("english", "spanish")}
    source = layers.Embedding(WORDS, 16, mask_zero=True)(inputs["english"])
    source = layers.LayerNormalization()(source + layers.MultiHeadAttention(2, 8)(source, source))
    x = layers.Embedding(WORDS, 16, mask_zero=True)(inputs["spanish"])
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(x, x, use_causal_mask=True))
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(x, source))
    x = layers.LayerNormalization()(x + layers.Dense(16)(layers.Dense(32, activation="relu")(x)))
    return classifier(inputs, layers.Dense(WORDS, activation="softmax")(layers.Dropout(0.5)(x)))
