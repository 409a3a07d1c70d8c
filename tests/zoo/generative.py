"""Networks with a training step of their own."""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import layers, ops

from zoo.network import images, network, part
from zoo.parts import Sampling


class VAE(keras.Model):
    """A variational autoencoder of 12 x 12 pixels."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.trackers = [keras.metrics.Mean(name=name) for name in ("loss", "kl_loss")]

    @property
    def metrics(self):
        return self.trackers

    def train_step(self, data):
        with tf.GradientTape() as tape:
            mean, log_var, z = self.encoder(data)
            rebuilt = self.decoder(z)
            reconstruction = ops.mean(ops.sum(keras.losses.binary_crossentropy(data, rebuilt), axis=(1, 2)))
            kl = ops.mean(ops.sum(-0.5 * (1 + log_var - ops.square(mean) - ops.exp(log_var)), axis=1))
            loss = reconstruction + kl
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, self.trainable_weights), self.trainable_weights, strict=True)
        )
        for tracker, value in zip(self.trackers, (loss, kl), strict=True):
            tracker.update_state(value)
        return {tracker.name: tracker.result() for tracker in self.trackers}


@network(
    lambda rng: (images(rng, 12, 12, 1), None),
    deployed=lambda model: part(model.encoder.inputs, model.encoder.outputs[:2]),
    deployed_rows=lambda rows: (rows[0], [rows[0][:, 0, :2, 0], rows[0][:, 1, :2, 0]]),
)
def vae():
    inputs = keras.Input((12, 12, 1))
    x = layers.Conv2D(8, 3, activation="relu", strides=2, padding="same")(inputs)
    x = layers.Dense(8, activation="relu")(layers.Flatten()(x))
    mean, log_var = layers.Dense(2, name="z_mean")(x), layers.Dense(2, name="z_log_var")(x)
    encoder = keras.Model(inputs, [mean, log_var, Sampling()([mean, log_var])])
    latent = keras.Input((2,))
    x = layers.Reshape((6, 6, 4))(layers.Dense(6 * 6 * 4, activation="relu")(latent))
    decoder = keras.Model(latent, layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="sigmoid")(x))
    model = VAE(encoder, decoder)
    model.compile(optimizer="adam")
    return model


class GAN(keras.Model):
    """Two networks that train each other, with an optimizer each."""

    def __init__(self, discriminator, generator, width):
        super().__init__()
        self.discriminator, self.generator, self.width = discriminator, generator, width
        self.seed_generator = keras.random.SeedGenerator(1337)
        self.trackers = [keras.metrics.Mean(name=name) for name in ("d_loss", "g_loss")]

    def compile(self, d_optimizer, g_optimizer, loss_fn):
        super().compile()
        self.d_optimizer, self.g_optimizer, self.loss_fn = d_optimizer, g_optimizer, loss_fn

    @property
    def metrics(self):
        return self.trackers

    def train_step(self, real):
        rows = ops.shape(real)[0]
        noise = keras.random.normal((rows, self.width), seed=self.seed_generator)
        both = ops.concatenate([self.generator(noise), real], axis=0)
        labels = ops.concatenate([ops.ones((rows, 1)), ops.zeros((rows, 1))], axis=0)
        with tf.GradientTape() as tape:
            d_loss = self.loss_fn(labels, self.discriminator(both))
        weights = self.discriminator.trainable_weights
        self.d_optimizer.apply_gradients(zip(tape.gradient(d_loss, weights), weights, strict=True))
        noise = keras.random.normal((rows, self.width), seed=self.seed_generator)
        with tf.GradientTape() as tape:
            g_loss = self.loss_fn(ops.zeros((rows, 1)), self.discriminator(self.generator(noise)))
        weights = self.generator.trainable_weights
        self.g_optimizer.apply_gradients(zip(tape.gradient(g_loss, weights), weights, strict=True))
        for tracker, value in zip(self.trackers, (d_loss, g_loss), strict=True):
            tracker.update_state(value)
        return {tracker.name: tracker.result() for tracker in self.trackers}


@network(
    lambda rng: (images(rng, 12, 12, 1), None),
    deployed=lambda model: part(model.generator.inputs, model.generator.outputs, "binary_crossentropy"),
    deployed_rows=lambda rows: (rows[0].reshape(len(rows[0]), -1)[:, :8], rows[0]),
)
def dcgan():
    discriminator = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(8, 4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    generator = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(6 * 6 * 8),
            layers.Reshape((6, 6, 8)),
            layers.Conv2DTranspose(8, 4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2D(1, 5, padding="same", activation="sigmoid"),
        ]
    )
    model = GAN(discriminator, generator, 8)
    model.compile(keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4), keras.losses.BinaryCrossentropy())
    return model


class Triplets(keras.Model):
    """A siamese network that learns from triplets, with a training step of its own."""

    def __init__(self, distances):
        super().__init__()
        self.distances = distances
        self.tracker = keras.metrics.Mean(name="loss")

    def call(self, inputs):
        return self.distances(inputs)

    @property
    def metrics(self):
        return [self.tracker]

    def train_step(self, data):
        with tf.GradientTape() as tape:
            near, far = self.distances(data)
            loss = ops.maximum(near - far + 0.5, 0.0)
        weights = self.distances.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


def _tower(tower):
    return part(tower.inputs, tower.outputs)


class Distances(layers.Layer):
    """Distances of an anchor to a positive and a negative."""

    def call(self, anchor, positive, negative):
        return ops.sum(ops.square(anchor - positive), -1), ops.sum(ops.square(anchor - negative), -1)


@network(
    lambda rng: ((images(rng, 12, 12, 1), images(rng, 12, 12, 1), images(rng, 12, 12, 1)), None),
    deployed=lambda model: _tower(model.distances.get_layer("embedding")),
    deployed_rows=lambda rows: (rows[0][0], rows[0][1][:, 0, :8, 0]),
)
def siamese_triplets():
    tower = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(8),
        ],
        name="embedding",
    )
    inputs = [keras.Input((12, 12, 1), name=name) for name in ("anchor", "positive", "negative")]
    model = Triplets(keras.Model(inputs, Distances()(*map(tower, inputs))))
    model.compile(optimizer="adam")
    return model
