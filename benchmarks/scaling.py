"""How much faster two workers are than one, beside the usual multi-worker loop written by hand.

Weak scaling: each worker trains batches of the same size on one pinned core, so that two are ideally twice as fast as
one. All take turns of an epoch in one run, in the same two processes; while one worker trains alone the other waits.
The usual loop is that of the tf.distribute tutorials, with 20 steps inside of one call of its `tf.function`.
Beside them: two logical devices of one process under `"mirrored"`, on both cores, in turns with one on one core; two
workers that train each for itself at the same time; and, for the network whose efficiency has a target, the same with a
wait for the other after every step, which is what is left to a training that exchanges gradients for nothing.

    python benchmarks/scaling.py ["conv net" LeNet-5 "MLP 300-100" small_cnn]
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import masslib

ROUNDS = 7
STEPS = 40
STEPS_PER_CALL = 20
ALONE, APART, IN_STEP = "one worker", "two that exchange nothing", "the same, in step"


def conv_net(input_shape: tuple[int, ...], classes: int) -> object:
    """66 thousand weights and much to compute."""
    from keras import Input, Sequential, layers

    def conv(filters: int) -> layers.Layer:
        return layers.Conv2D(filters, 3, padding="same", activation="relu")

    pooled = [conv(32), conv(32), layers.MaxPooling2D(), conv(64), conv(64), layers.GlobalAveragePooling2D()]
    return Sequential([Input(input_shape), *pooled, layers.Dense(classes, activation="softmax")])


# How to build it, rows per worker, least efficiency, least gain over the usual loop
NETWORKS = {
    "conv net": (conv_net, 64, 0.95, None),
    "LeNet-5": (masslib.models.lenet5, 128, None, 1.03),
    "MLP 300-100": (masslib.models.mlp, 256, None, 1.08),
    "small_cnn": (masslib.models.small_cnn, 64, None, 1.12),
}


def compiled(strategy: object, build: Callable) -> object:
    import keras

    splits = masslib.data.load("fashion_mnist")
    with strategy.scope():
        model = build(splits.input_shape, splits.num_classes)
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
    return model


def by_masslib(
    strategy: object, build: Callable, batch: int, beside: object = None, in_step: bool = False, **options: str
) -> Callable[[], float]:
    """A training of ours. Its epochs, or its steps, begin together with those of the other worker of `beside`."""
    import keras

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
            if beside:
                meet(beside)
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            self.seconds = time.perf_counter() - self.start

    class InStep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            meet(beside)

    model, clock = compiled(strategy, build), Clock()
    callbacks = [clock, InStep()] if in_step else [clock]
    data = masslib.data.load("fashion_mnist").train.take(batch * STEPS)

    def epoch() -> float:
        # The first of the two epochs traces, as every call of fit does; the clock keeps the second.
        masslib.fit(model, data, batch_size=batch, epochs=2, verbose=0, callbacks=callbacks, **options)
        return clock.seconds

    return epoch


def train_mirrored(build: Callable, rows: int) -> list[float]:
    """Run in one process; return one worker's seconds over those of two replicas, round by round."""
    import tensorflow as tf

    pair = masslib.strategy("mirrored", devices=["CPU:0", "CPU:1"])
    mirrored = by_masslib(pair, build, 2 * rows)
    single = by_masslib(tf.distribute.get_strategy(), build, rows)
    cores = sorted(os.sched_getaffinity(0))[:2]
    ratios = []
    for number in range(ROUNDS + 1):
        pin_all_threads(cores[:1])
        alone = single()
        pin_all_threads(cores)
        together = mirrored()
        if number:  # the first round traces
            ratios.append(alone / together)
    return ratios


def pin_all_threads(cores: list[int]) -> None:
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cores)


def train(build: Callable, rows: int, in_step: bool) -> dict[str, list[float]]:
    """Run in both workers; return the seconds of each epoch of each contestant."""
    import tensorflow as tf

    pair = masslib.strategy("multi_worker")
    chief = pair.cluster_resolver.task_id == 0
    splits = masslib.data.load("fashion_mnist")
    alone = tf.distribute.get_strategy()
    single = by_masslib(alone, build, rows)
    contestants = {
        APART: by_masslib(alone, build, rows, beside=pair),
        "usual loop": by_hand(pair, compiled(pair, build), splits.train.take(2 * rows * STEPS), 2 * rows),
        "masslib, shared memory": by_masslib(pair, build, 2 * rows),
        "masslib, float16": by_masslib(pair, build, 2 * rows, wire="float16"),
    }
    if in_step:
        contestants[IN_STEP] = by_masslib(alone, build, rows, beside=pair, in_step=True)
    seconds: dict[str, list[float]] = {name: [] for name in (ALONE, *contestants)}
    for number in range(ROUNDS + 1):
        found = {ALONE: single() if chief else 0.0}
        for name, epoch in contestants.items():
            meet(pair)
            found[name] = epoch()
        meet(pair)
        if number:  # the first round traces
            for name, value in found.items():
                seconds[name].append(value)
    return seconds


def meet(strategy: object) -> None:
    """Wait for the other worker."""
    import tensorflow as tf

    strategy.run(lambda: tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.ones([1])))


def by_hand(strategy: object, model: object, subset: object, batch: int) -> Callable[[], float]:
    import keras
    import tensorflow as tf

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    batches = subset.batches(batch, epochs=ROUNDS + 1).with_options(options)
    iterator = iter(strategy.experimental_distribute_dataset(batches))
    with strategy.scope():
        optimizer = model.optimizer
        optimizer.build(model.trainable_variables)
        cross_entropy = keras.losses.SparseCategoricalCrossentropy(reduction=None)

    def step(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.nn.compute_average_loss(cross_entropy(y, model(x, training=True)), global_batch_size=batch)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    # Written without AutoGraph, which does not find the source of a function that was shipped to another process.
    @tf.function(autograph=False)
    def many(iterator: object) -> None:
        def body(number: tf.Tensor) -> tf.Tensor:
            strategy.run(step, args=next(iterator))
            return number + 1

        tf.while_loop(lambda number: number < STEPS_PER_CALL, body, [tf.constant(0)])

    def epoch() -> float:
        start = time.perf_counter()
        for _ in range(STEPS // STEPS_PER_CALL):
            many(iterator)
        return time.perf_counter() - start

    return epoch


def main() -> int:
    from _rounds import verdict

    if len(os.sched_getaffinity(0)) < 2:
        print("two cores are needed")
        return 1
    print(f"2 workers, each pinned to 1 core, {ROUNDS} rounds of {STEPS} steps")
    met = True
    for title in sys.argv[1:] or NETWORKS:
        build, rows, efficiency, gain = NETWORKS[title]
        seconds = masslib.launch(train, [build, rows, efficiency is not None], workers=2, threads=1)[0]
        for contestant in seconds:
            if contestant != ALONE:
                ratios = [a / b for a, b in zip(seconds[ALONE], seconds[contestant], strict=True)]
                target = efficiency if contestant == "masslib, shared memory" else None
                met &= verdict(f"{title}, {rows} rows: efficiency of {contestant}", ratios, at_least=target)
        for contestant in [name for name in seconds if name.startswith("masslib")]:
            ratios = [a / b for a, b in zip(seconds["usual loop"], seconds[contestant], strict=True)]
            met &= verdict(f"{title}, {rows} rows: speed of {contestant} / usual loop", ratios, at_least=gain)
        (ratios,) = masslib.launch(train_mirrored, [build, rows], workers=1, threads=2)
        verdict(f"{title}, {rows} rows: efficiency of in-process mirrored", ratios)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
