"""The networks of the case: the first half of EfficientNet-Lite0, and residual networks from scratch."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from case import weights

# Repeats, stride and expansion of the blocks whose features are general enough, kernels and channels being those of the
# weights: of photos of 64 pixels they leave 4 x 4 places. The later blocks hold ten times as many weights and know dogs
# from wolves.
_BLOCKS = ((1, 1, 1), (2, 2, 6), (2, 2, 6), (1, 2, 6))


def pretrained(shape: Sequence[int], classes: int, *, seed: int = 0) -> keras.Model:
    """The first blocks of EfficientNet-Lite0 with their weights of ImageNet, and a small new head.

    Args:
        shape: `(h, w, 3)`; inputs are in [0, 1].
        classes: Outputs.
        seed: Of the head.

    References:
        Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019; "lite": without
        squeeze and excitation, and with ReLU6.
    """
    known = weights.read(weights.at_hand())
    x = inputs = keras.Input(tuple(shape))
    x = layers.Rescaling(255 / 128, -127 / 128)(x)
    x = layers.ReLU(6.0)(_norm(_conv(x, known, "_conv_stem", 2), known, "_bn0"))
    number = 0
    for repeats, stride, expansion in _BLOCKS:
        for k in range(repeats):
            x = _block(x, known, f"_blocks.{number}.", stride if k == 0 else 1, expansion)
            number += 1
    init = keras.initializers.HeNormal(seed)
    x = layers.Conv2D(128, 1, use_bias=False, kernel_initializer=init)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Dropout(0.2, seed=seed)(layers.GlobalAveragePooling2D()(x))
    init = keras.initializers.GlorotUniform(seed)
    return keras.Model(
        inputs, layers.Dense(classes, activation="softmax", kernel_initializer=init)(x), name="pretrained"
    )


def residual(shape: Sequence[int], classes: int, *, width: int = 16, seed: int = 0) -> keras.Model:
    """A small residual network from scratch.

    Args:
        shape: `(h, w, 3)`; inputs are in [0, 1].
        classes: Outputs.
        width: Channels of the first stage; twice and four times as many behind it. 16 makes 152,000 weights.
        seed: Of the weights.

    References:
        He et al., "Deep Residual Learning for Image Recognition", 2016.
    """
    seeds = iter(range(seed, seed + 100))

    def conv(x: keras.KerasTensor, channels: int, kernel: int, stride: int = 1) -> keras.KerasTensor:
        init = keras.initializers.HeNormal(next(seeds))
        x = layers.Conv2D(channels, kernel, stride, "same", use_bias=False, kernel_initializer=init)(x)
        return layers.BatchNormalization(momentum=0.9)(x)

    inputs = keras.Input(tuple(shape))
    x = layers.ReLU()(conv(inputs, width, 3, 2))
    for channels, stride in ((width, 1), (2 * width, 2), (4 * width, 2), (4 * width, 1)):
        y = conv(layers.ReLU()(conv(x, channels, 3, stride)), channels, 3)
        if stride > 1 or x.shape[-1] != channels:
            x = conv(layers.AveragePooling2D(stride, padding="same")(x) if stride > 1 else x, channels, 1)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Dropout(0.2, seed=seed)(layers.GlobalAveragePooling2D()(x))
    init = keras.initializers.GlorotUniform(seed)
    return keras.Model(inputs, layers.Dense(classes, activation="softmax", kernel_initializer=init)(x), name="residual")


def _block(x: keras.KerasTensor, known: dict, name: str, stride: int, expansion: int) -> keras.KerasTensor:
    y = x
    if expansion > 1:
        y = layers.ReLU(6.0)(_norm(_conv(y, known, name + "_expand_conv"), known, name + "_bn0"))
    y = layers.ReLU(6.0)(_norm(_conv(y, known, name + "_depthwise_conv", stride), known, name + "_bn1"))
    y = _norm(_conv(y, known, name + "_project_conv"), known, name + "_bn2")
    return layers.Add()([x, y]) if y.shape == x.shape else y


def _conv(x: keras.KerasTensor, known: dict[str, np.ndarray], name: str, stride: int = 1) -> keras.KerasTensor:
    kernel = known[f"{name}.weight"]  # (out, in, h, w)
    depthwise = kernel.shape[1] == 1
    if depthwise:
        layer = layers.DepthwiseConv2D(kernel.shape[2], stride, "same", use_bias=False)
    else:
        layer = layers.Conv2D(kernel.shape[0], kernel.shape[2], stride, "same", use_bias=False)
    x = layer(x)
    layer.set_weights([kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(2, 3, 1, 0)])
    return x


def _norm(x: keras.KerasTensor, known: dict[str, np.ndarray], name: str) -> keras.KerasTensor:
    layer = layers.BatchNormalization(epsilon=1e-3)
    x = layer(x)
    layer.set_weights([known[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")])
    return x
