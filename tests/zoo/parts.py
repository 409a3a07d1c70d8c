"""Layers of the networks' own: most without `get_config`, as in the examples."""

from __future__ import annotations

import keras
from keras import layers, ops


class Patches(layers.Layer):
    """Cuts images into flat patches."""

    def __init__(self, patch_size):
        super().__init__()
        self.patch_size = patch_size

    def call(self, images):
        batch, height, width, channels = ops.shape(images)
        size = self.patch_size
        patches = ops.image.extract_patches(images, size=size)
        return ops.reshape(patches, (batch, height // size * (width // size), size * size * channels))


class PatchEncoder(layers.Layer):
    """Projects patches and adds their places."""

    def __init__(self, num_patches, width):
        super().__init__()
        self.num_patches = num_patches
        self.projection = layers.Dense(width)
        self.position_embedding = layers.Embedding(num_patches, width)

    def call(self, patch):
        positions = ops.expand_dims(ops.arange(0, self.num_patches), 0)
        return self.projection(patch) + self.position_embedding(positions)


class TokenAndPositionEmbedding(layers.Layer):
    """Embeds words and their places."""

    def __init__(self, length, words, width):
        super().__init__()
        self.words = layers.Embedding(words, width)
        self.places = layers.Embedding(length, width)

    def call(self, x):
        positions = ops.arange(0, ops.shape(x)[-1])
        return self.words(x) + self.places(positions)


class TransformerBlock(layers.Layer):
    """Attention and two dense layers, each with a residual connection."""

    def __init__(self, width, heads, hidden, rate=0.1, causal=False):
        super().__init__()
        self.causal = causal
        self.attention = layers.MultiHeadAttention(heads, width)
        self.feed_forward = keras.Sequential([layers.Dense(hidden, activation="relu"), layers.Dense(width)])
        self.norms = [layers.LayerNormalization(epsilon=1e-6) for _ in range(2)]
        self.drops = [layers.Dropout(rate) for _ in range(2)]

    def call(self, inputs, training=False):
        attended = self.attention(inputs, inputs, use_causal_mask=self.causal)
        x = self.norms[0](inputs + self.drops[0](attended, training=training))
        return self.norms[1](x + self.drops[1](self.feed_forward(x), training=training))


class SequencePooling(layers.Layer):
    """Averages a sequence with learnt weights."""

    def __init__(self):
        super().__init__()
        self.attention = layers.Dense(1)

    def call(self, x):
        weights = ops.transpose(ops.softmax(self.attention(x), axis=1), (0, 2, 1))
        return ops.squeeze(ops.matmul(weights, x), -2)


class PositionEmbedding(layers.Layer):
    """Adds learnt places to a sequence."""

    def build(self, shape):
        self.places = self.add_weight(shape=shape[1:], initializer="random_normal", name="places")

    def call(self, x):
        return x + self.places


class StochasticDepth(layers.Layer):
    """Leaves out the branch of some examples while training."""

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, x, training=False):
        if not training:
            return x
        kept = 1 - self.rate
        shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        return x / kept * ops.floor(kept + keras.random.uniform(shape, seed=self.seed_generator))


class DepthToSpace(layers.Layer):
    """Turns channels into pixels."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        batch, height, width, channels = ops.shape(x)
        factor, depth = self.factor, channels // self.factor**2
        x = ops.reshape(x, (batch, height, width, factor, factor, depth))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (batch, height * factor, width * factor, depth))


class Sampling(layers.Layer):
    """Draws from a normal distribution."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs):
        mean, log_var = inputs
        return mean + ops.exp(0.5 * log_var) * keras.random.normal(ops.shape(mean), seed=self.seed_generator)


class CTCLoss(layers.Layer):
    """Adds the loss of connectionist temporal classification, and passes the predictions on."""

    def call(self, y_true, y_pred):
        rows, steps, length = ops.shape(y_pred)[0], ops.shape(y_pred)[1], ops.shape(y_true)[1]
        lengths, times = ops.full((rows,), length, "int32"), ops.full((rows,), steps, "int32")
        loss = ops.ctc_loss(y_true, y_pred, lengths, times, mask_index=0)
        self.add_loss(ops.mean(loss))
        return y_pred


class Involution(layers.Layer):
    """A kernel of each pixel's own, shared between channels."""

    def __init__(self, channels, kernel_size, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.kernel_size = channels, kernel_size

    def build(self, shape):
        _, self.height, self.width, _ = shape
        size = self.kernel_size
        self.kernel_gen = keras.Sequential(
            [layers.Conv2D(2, 1), layers.BatchNormalization(), layers.ReLU(), layers.Conv2D(size * size, 1)]
        )
        self.kernel_gen.build(shape)

    def call(self, x):
        size = self.kernel_size
        kernel = ops.reshape(self.kernel_gen(x), (-1, self.height, self.width, size * size, 1))
        patches = ops.image.extract_patches(x, size=size, strides=1, padding="same")
        patches = ops.reshape(patches, (-1, self.height, self.width, size * size, self.channels))
        return ops.sum(kernel * patches, axis=3)
