"""What a step of `masslib.fit` costs beside a hand-written tf.distribute loop and beside `model.fit`.

All train the same network on the same batches, in turns of an epoch, in one run. The hand-written loop is that of the
tf.distribute tutorials with the same loss and accuracy, once with one step per call of its `tf.function`, and once with
a whole epoch in it, which is the fastest that can be written by hand.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import masslib

import keras
import tensorflow as tf
from _rounds import ROUNDS, EpochTimer, TakingTurns, pin, verdict

SPLITS = masslib.data.load("fashion_mnist")


def compiled(build: Callable) -> keras.Model:
    model = build(SPLITS.input_shape, SPLITS.num_classes)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def by_hand(build: Callable, batches: tf.data.Dataset, *, whole_epoch: bool) -> Callable[[], float]:
    strategy = tf.distribute.get_strategy()
    with strategy.scope():
        model = build(SPLITS.input_shape, SPLITS.num_classes)
        optimizer = keras.optimizers.Adam()
        optimizer.build(model.trainable_variables)
        mean_loss = keras.metrics.Mean()
        accuracy = keras.metrics.SparseCategoricalAccuracy()
        cross_entropy = keras.losses.SparseCategoricalCrossentropy()

    def step(x: tf.Tensor, y: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            probabilities = model(x, training=True)
            loss = cross_entropy(y, probabilities)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        mean_loss.update_state(loss, sample_weight=tf.shape(x)[0])
        accuracy.update_state(y, probabilities)

    @tf.function
    def one(x: tf.Tensor, y: tf.Tensor) -> None:
        strategy.run(step, args=(x, y))

    @tf.function
    def many(iterator: tf.data.Iterator, count: tf.Tensor) -> None:
        for _ in tf.range(count):
            one(*next(iterator))

    count = tf.constant(int(batches.cardinality()))

    def epoch() -> float:
        start = time.perf_counter()
        if whole_epoch:
            many(iter(batches), count)
        else:
            for x, y in batches:
                one(x, y)
        float(mean_loss.result())
        return time.perf_counter() - start

    return epoch


def by_keras(build: Callable, batches: tf.data.Dataset) -> Callable[[], float]:
    model, timer = compiled(build), EpochTimer()

    def epoch() -> float:
        model.fit(batches, verbose=0, shuffle=False, callbacks=[timer])
        return timer.seconds

    return epoch


def compare(build: Callable, rows: int, batch_size: int) -> TakingTurns:
    subset = SPLITS.train.take(rows)
    batches = subset.batches(batch_size)
    peers = {
        "a hand-written loop": by_hand(build, batches, whole_epoch=False),
        "a hand-written loop inside one tf.function": by_hand(build, batches, whole_epoch=True),
        "model.fit": by_keras(build, batches),
    }
    turns = TakingTurns(peers)
    masslib.fit(compiled(build), subset, batch_size=batch_size, epochs=ROUNDS + 1, verbose=0, callbacks=[turns])
    return turns


def main() -> int:
    pin(1)
    met = True
    cnn, mlp = masslib.models.small_cnn, masslib.models.mlp
    for build, rows, batch_size in ((cnn, 2560, 256), (mlp, 51200, 256), (mlp, 12800, 32), (cnn, 960, 32)):
        turns = compare(build, rows, batch_size)
        name = f"{build.__name__}, batch {batch_size}"
        for peer in turns.peers:
            limit = None
            if batch_size == 256 and peer.startswith("a hand"):
                limit = 1.02
            if build is mlp and batch_size == 32 and peer == "model.fit":
                limit = 0.45
            met &= verdict(f"{name}: masslib.fit / {peer}", turns.ratios(peer), at_most=limit)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
