"""Networks that several benchmarks train, and the notebooks do not need."""

from __future__ import annotations

import keras
from keras import layers


def resnet8(input_shape: tuple[int, ...], classes: int, width: float = 1.0) -> keras.Model:
    """The ResNet-8 of MLPerf Tiny, for images of any size; `width` is the share of its channels."""
    first, *stages = (max(round(width * filters), 1) for filters in (16, 16, 32, 64))
    x = entry = keras.Input(input_shape)
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(first, 3, padding="same")(x)))
    for filters, strides in zip(stages, (1, 2, 2), strict=True):
        short = x if strides == 1 else layers.Conv2D(filters, 1, strides=strides, padding="same")(x)
        x = layers.Conv2D(filters, 3, strides=strides, padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(x))
        x = layers.ReLU()(layers.Add()([x, short]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(entry, layers.Dense(classes, activation="softmax")(x), name="resnet8")
