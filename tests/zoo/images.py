"""Networks that look at images."""

from __future__ import annotations

import keras
from keras import layers, ops

from zoo.network import classifier, ids, images, network
from zoo.parts import (
    DepthToSpace,
    Involution,
    PatchEncoder,
    Patches,
    PositionEmbedding,
    SequencePooling,
    StochasticDepth,
)

CLASSES = 4


def photos(side=16, channels=3):
    """Rows of images with a class each."""
    return lambda rng: (images(rng, side, side, channels), ids(rng, CLASSES))


def same_size(side=16, channels=3):
    """Rows of images with images as labels."""
    return lambda rng: (images(rng, side, side, channels), images(rng, side, side, channels))


@network(photos(channels=1))
def mnist_convnet():
    model = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@network(same_size(channels=1))
def autoencoder():
    inputs = keras.Input((16, 16, 1))
    x = layers.Conv2D(8, 3, activation="relu", padding="same")(inputs)
    x = layers.MaxPooling2D(2, padding="same")(x)
    x = layers.Conv2DTranspose(8, 3, strides=2, activation="relu", padding="same")(x)
    return classifier(inputs, layers.Conv2D(1, 3, activation="sigmoid", padding="same")(x), "binary_crossentropy")


@network(lambda rng: (images(rng, 16, 16, 3), ids(rng, 3, 16, 16)))
def unet():
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same")(inputs)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    before = x
    x = layers.SeparableConv2D(16, 3, padding="same")(layers.Activation("relu")(x))
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = layers.add([x, layers.Conv2D(16, 1, strides=2, padding="same")(before)])
    for filters in (16, 8):
        before = x
        x = layers.Conv2DTranspose(filters, 3, padding="same")(layers.Activation("relu")(x))
        x = layers.UpSampling2D(2)(layers.BatchNormalization()(x))
        x = layers.add([x, layers.Conv2D(filters, 1, padding="same")(layers.UpSampling2D(2)(before))])
    return classifier(inputs, layers.Conv2D(3, 3, activation="softmax", padding="same")(x))


def _mlp(x, widths, rate=0.1):
    for width in widths:
        x = layers.Dropout(rate)(layers.Dense(width, activation=keras.activations.gelu)(x))
    return x


@network(photos())
def vit():
    inputs = keras.Input((16, 16, 3))
    x = PatchEncoder(16, 16)(Patches(4)(layers.Normalization(mean=0.5, variance=0.08)(inputs)))
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.Add()([layers.MultiHeadAttention(2, 16, dropout=0.1)(y, y), x])
        x = layers.Add()([_mlp(layers.LayerNormalization(epsilon=1e-6)(x), [32, 16]), x])
    x = layers.Dropout(0.5)(layers.Flatten()(layers.LayerNormalization(epsilon=1e-6)(x)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return classifier(inputs, layers.Dense(CLASSES)(_mlp(x, [32])), loss, optimizer="adamw")


@network(photos())
def convmixer():
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(16, 2, strides=2)(layers.Rescaling(1.0)(inputs))
    x = layers.BatchNormalization()(layers.Activation("gelu")(x))
    for _ in range(2):
        y = layers.DepthwiseConv2D(5, padding="same")(x)
        x = layers.Add()([layers.BatchNormalization()(layers.Activation("gelu")(y)), x])
        x = layers.BatchNormalization()(layers.Activation("gelu")(layers.Conv2D(16, 1)(x)))
    return classifier(inputs, layers.Dense(CLASSES, activation="softmax")(layers.GlobalAvgPool2D()(x)))


@network(photos())
def cct():
    inputs = keras.Input((16, 16, 3))
    x = inputs
    for filters in (8, 16):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, activation="relu")(x)
        x = layers.MaxPooling2D(3, 2, "same")(x)
    x = PositionEmbedding()(layers.Reshape((16, 16))(x))
    for rate in (0.0, 0.1):
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        y = layers.MultiHeadAttention(2, 16, dropout=0.1)(y, y)
        x = layers.Add()([StochasticDepth(rate)(y), x])
        y = _mlp(layers.LayerNormalization(epsilon=1e-5)(x), [16, 16])
        x = layers.Add()([StochasticDepth(rate)(y), x])
    x = SequencePooling()(layers.LayerNormalization(epsilon=1e-5)(x))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    return classifier(inputs, layers.Dense(CLASSES)(x), _one_hot(loss), optimizer="adamw")


def _one_hot(loss):
    def smoothed(y_true, y_pred):
        return loss(ops.one_hot(ops.cast(ops.reshape(y_true, (-1,)), "int32"), CLASSES), y_pred)

    return smoothed


class MLPMixer(layers.Layer):
    """Mixes patches, then channels."""

    def __init__(self, num_patches, width):
        super().__init__()
        self.mlp1 = keras.Sequential([layers.Dense(num_patches, activation="gelu"), layers.Dense(num_patches)])
        self.mlp2 = keras.Sequential([layers.Dense(width, activation="gelu"), layers.Dense(width)])
        self.normalize = layers.LayerNormalization(epsilon=1e-6)

    def call(self, inputs):
        channels = ops.transpose(self.normalize(inputs), (0, 2, 1))
        x = ops.transpose(self.mlp1(channels), (0, 2, 1)) + inputs
        return x + self.mlp2(self.normalize(x))


class FNet(layers.Layer):
    """Mixes by Fourier transforms."""

    def __init__(self, width):
        super().__init__()
        self.ffn = keras.Sequential([layers.Dense(width, activation="gelu"), layers.Dense(width)])
        self.norms = [layers.LayerNormalization(epsilon=1e-6) for _ in range(2)]

    def call(self, inputs):
        x = self.norms[0](inputs + ops.fft2((inputs, ops.zeros_like(inputs)))[0])
        return self.norms[1](x + self.ffn(x))


class GMLP(layers.Layer):
    """Gates channels by other patches."""

    def __init__(self, num_patches, width):
        super().__init__()
        self.first, self.last = layers.Dense(2 * width, activation="gelu"), layers.Dense(width)
        self.gate = layers.Dense(num_patches, bias_initializer="ones")
        self.norms = [layers.LayerNormalization(epsilon=1e-6) for _ in range(2)]

    def call(self, inputs):
        u, v = ops.split(self.first(self.norms[0](inputs)), 2, axis=2)
        v = ops.transpose(self.gate(ops.transpose(self.norms[1](v), (0, 2, 1))), (0, 2, 1))
        return inputs + self.last(u * v)


def _mixed(blocks):
    inputs = keras.Input((16, 16, 3))
    x = layers.Dense(16)(Patches(4)(inputs))
    x = blocks(PositionEmbedding()(x))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling1D()(x))
    return classifier(inputs, layers.Dense(CLASSES, activation="softmax")(x))


@network(photos())
def mlp_mixer():
    return _mixed(keras.Sequential([MLPMixer(16, 16) for _ in range(2)]))


@network(photos())
def fnet():
    return _mixed(keras.Sequential([FNet(16) for _ in range(2)]))


@network(photos())
def gmlp():
    return _mixed(keras.Sequential([GMLP(16, 16) for _ in range(2)]))


@network(photos())
def eanet():
    def external_attention(x, heads=2, width=16):
        q = ops.reshape(layers.Dense(width * 2)(x), (-1, 16, heads, width * 2 // heads))
        attention = layers.Dense(8)(ops.transpose(q, (0, 2, 1, 3)))
        attention = layers.Activation("softmax")(attention)
        attention = attention / (1e-9 + ops.sum(attention, axis=-1, keepdims=True))
        x = layers.Dense(width * 2 // heads)(layers.Dropout(0.1)(attention))
        x = ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, 16, width * 2))
        return layers.Dropout(0.1)(layers.Dense(width)(x))

    inputs = keras.Input((16, 16, 3))
    x = PatchEncoder(16, 16)(Patches(4)(inputs))
    x = layers.add([external_attention(layers.LayerNormalization()(x)), x])
    x = layers.add([_mlp(layers.LayerNormalization()(x), [16, 16]), x])
    return classifier(inputs, layers.Dense(CLASSES, activation="softmax")(layers.GlobalAveragePooling1D()(x)))


class WindowAttention(layers.Layer):
    """Attention within windows of 2 x 2 patches, shifted or not, of a grid of 4 x 4."""

    def __init__(self, width, shift):
        super().__init__()
        self.width, self.shift = width, shift
        self.attention = layers.MultiHeadAttention(2, width // 2)

    def build(self, shape):
        self.bias = self.add_weight(shape=(4, 4), initializer="random_normal", name="bias")
        self.attention.build((None, 4, self.width), (None, 4, self.width))

    def call(self, x):
        x = ops.roll(ops.reshape(x, (-1, 4, 4, self.width)), (-self.shift, -self.shift), (1, 2))
        x = ops.transpose(ops.reshape(x, (-1, 2, 2, 2, 2, self.width)), (0, 1, 3, 2, 4, 5))
        x = ops.reshape(x, (-1, 4, self.width))
        x = self.attention(x, x) + ops.expand_dims(ops.matmul(self.bias, ops.ones((4, self.width))), 0)
        x = ops.transpose(ops.reshape(x, (-1, 2, 2, 2, 2, self.width)), (0, 1, 3, 2, 4, 5))
        x = ops.roll(ops.reshape(x, (-1, 4, 4, self.width)), (self.shift, self.shift), (1, 2))
        return ops.reshape(x, (-1, 16, self.width))


class DropPath(layers.Layer):
    """Stochastic depth as in the example of the Swin transformer, which draws without a seed generator."""

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate

    def call(self, x):
        shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        mask = ops.convert_to_tensor(keras.random.uniform(shape, seed=3) < self.rate)
        return ops.where(mask, ops.zeros_like(x), x / (1 - self.rate))


@network(photos())
def swin():
    inputs = keras.Input((16, 16, 3))
    x = PatchEncoder(16, 16)(Patches(4)(inputs))
    for shift in (0, 1):
        y = WindowAttention(16, shift)(layers.LayerNormalization(epsilon=1e-5)(x))
        x = layers.Add()([x, layers.Dropout(0.1)(y)])
        y = _mlp(layers.LayerNormalization(epsilon=1e-5)(x), [32, 16])
        x = layers.Add()([x, DropPath(0.03)(y)])
    return classifier(inputs, layers.Dense(CLASSES, activation="softmax")(layers.GlobalAveragePooling1D()(x)))


class TokenLearner(layers.Layer):
    """Summarizes a grid of patches in a few tokens."""

    def __init__(self, tokens):
        super().__init__()
        self.tokens = tokens
        self.norm = layers.LayerNormalization()
        self.maps = keras.Sequential([layers.Conv2D(tokens, 3, padding="same", activation="gelu") for _ in range(2)])

    def call(self, x):
        batch, height, width, channels = ops.shape(x)
        maps = ops.reshape(ops.sigmoid(self.maps(self.norm(x))), (batch, height * width, self.tokens))
        flat = ops.reshape(x, (batch, height * width, channels))
        return ops.matmul(ops.transpose(maps, (0, 2, 1)), flat) / (height * width)


@network(photos())
def token_learner():
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(16, 4, strides=4)(inputs)
    x = PositionEmbedding()(layers.Reshape((16, 16))(x))
    y = layers.LayerNormalization()(x)
    x = layers.Add()([layers.MultiHeadAttention(2, 8)(y, y), x])
    x = TokenLearner(4)(layers.Reshape((4, 4, 16))(x))
    y = layers.LayerNormalization()(x)
    x = layers.Add()([layers.MultiHeadAttention(2, 8)(y, y), x])
    return classifier(inputs, layers.Dense(CLASSES, activation="softmax")(layers.GlobalAvgPool1D()(x)))


@network(photos())
def involution():
    inputs = keras.Input((16, 16, 3))
    x = layers.MaxPooling2D(2)(layers.ReLU(name="relu1")(Involution(3, 3, name="inv1")(inputs)))
    x = layers.ReLU(name="relu2")(Involution(3, 3, name="inv2")(x))
    x = layers.Dense(16, activation="relu")(layers.Flatten()(x))
    return classifier(inputs, layers.Dense(CLASSES, activation="softmax")(x))


@network(lambda rng: (images(rng, 8, 8, 1), images(rng, 24, 24, 1)))
def super_resolution():
    inputs = keras.Input((None, None, 1))
    x = layers.Conv2D(8, 5, activation="relu", padding="same", kernel_initializer="orthogonal")(inputs)
    x = layers.Conv2D(9, 3, activation="relu", padding="same")(x)
    return classifier(inputs, DepthToSpace(3)(x), "mse")


@network(same_size())
def dce_net():
    inputs = keras.Input((16, 16, 3))
    first = layers.Conv2D(8, 3, activation="relu", padding="same")(inputs)
    second = layers.Conv2D(8, 3, activation="relu", padding="same")(first)
    both = layers.Concatenate(axis=-1)([second, first])
    curves = layers.Conv2D(6, 3, activation="tanh", padding="same")(both)
    x = inputs
    for i in range(2):
        x = x + curves[..., 3 * i : 3 * i + 3] * (ops.square(x) - x)
    return classifier(inputs, x, "mae")


@network(photos())
def xception_cats_dogs():
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same")(layers.Rescaling(1.0)(inputs))
    before = x = layers.Activation("relu")(layers.BatchNormalization()(x))
    for filters in (16, 24):
        for _ in range(2):
            x = layers.SeparableConv2D(filters, 3, padding="same")(layers.Activation("relu")(x))
            x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        before = x = layers.add([x, layers.Conv2D(filters, 1, strides=2, padding="same")(before)])
    x = layers.Dropout(0.25)(layers.GlobalAveragePooling2D()(x))
    return classifier(inputs, layers.Dense(CLASSES)(x), keras.losses.SparseCategoricalCrossentropy(from_logits=True))


@network(photos(32))
def mobilenet_transfer():
    base = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, include_top=False, weights=None)
    base.trainable = False
    inputs = keras.Input((32, 32, 3))
    x = layers.GlobalAveragePooling2D()(base(layers.Rescaling(2.0, offset=-1.0)(inputs), training=False))
    return classifier(inputs, layers.Dense(CLASSES, activation="softmax")(layers.Dropout(0.2)(x)))


@network(photos())
def resnet_cifar():
    inputs = keras.Input((16, 16, 3))
    x = layers.RandomFlip("horizontal")(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", use_bias=False)(x)))
    for filters, strides in ((8, 1), (16, 2)):
        y = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same", use_bias=False)(y))
        if strides > 1:
            x = layers.Conv2D(filters, 1, strides=strides)(x)
        x = layers.ReLU()(layers.add([x, y]))
    return classifier(inputs, layers.Dense(CLASSES, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


@network(lambda rng: (images(rng, 4, 12, 12, 1), images(rng, 4, 12, 12, 1)))
def conv_lstm():
    inputs = keras.Input((None, 12, 12, 1))
    x = layers.ConvLSTM2D(4, 3, padding="same", return_sequences=True, activation="relu")(inputs)
    x = layers.ConvLSTM2D(4, 1, padding="same", return_sequences=True, activation="relu")(
        layers.BatchNormalization()(x)
    )
    return classifier(inputs, layers.Conv3D(1, 3, activation="sigmoid", padding="same")(x), "binary_crossentropy")


@network(lambda rng: (images(rng, 4, 12, 12, 1), ids(rng, CLASSES)))
def video_gru():
    inputs = keras.Input((4, 12, 12, 1))
    frame = keras.Sequential([layers.Conv2D(4, 3, activation="relu"), layers.GlobalAveragePooling2D()])
    x = layers.GRU(8)(layers.GRU(8, return_sequences=True)(layers.TimeDistributed(frame)(inputs)))
    return classifier(inputs, layers.Dense(CLASSES, activation="softmax")(x))


@network(lambda rng: (images(rng, 6, 12, 12, 1), ids(rng, CLASSES)))
def video_cnn_3d():
    inputs = keras.Input((6, 12, 12, 1))
    x = layers.MaxPool3D(2)(layers.Conv3D(8, 3, activation="relu")(inputs))
    x = layers.Dense(16, activation="relu")(layers.GlobalAveragePooling3D()(layers.BatchNormalization()(x)))
    return classifier(inputs, layers.Dense(CLASSES, activation="softmax")(x))


class PixelConv(layers.Layer):
    """A convolution that does not look ahead."""

    def __init__(self, mask_type, **kwargs):
        super().__init__()
        self.mask_type, self.conv = mask_type, layers.Conv2D(**kwargs)

    def build(self, shape):
        self.conv.build(shape)
        rows, columns = self.conv.kernel.shape[:2]
        mask = ops.concatenate([ops.ones((rows // 2, columns)), ops.zeros((rows - rows // 2, columns))])
        ahead = ops.concatenate([ops.ones((columns // 2,)), ops.zeros((columns - columns // 2,))])
        mask = ops.convert_to_numpy(mask).copy()
        mask[rows // 2] = ops.convert_to_numpy(ahead)
        if self.mask_type == "B":
            mask[rows // 2, columns // 2] = 1
        self.mask = mask[..., None, None]

    def call(self, x):
        kernel = self.conv.kernel * self.mask
        return self.conv.activation(ops.conv(x, kernel, padding="same") + self.conv.bias)


@network(same_size(12, 1))
def pixelcnn():
    inputs = keras.Input((12, 12, 1), batch_size=None)
    x = PixelConv("A", filters=8, kernel_size=7, activation="relu", padding="same")(inputs)
    x = keras.layers.add([x, PixelConv("B", filters=8, kernel_size=3, activation="relu", padding="same")(x)])
    return classifier(inputs, layers.Conv2D(1, 1, activation="sigmoid")(x), "binary_crossentropy")
