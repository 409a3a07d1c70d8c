"""The train step: what every replica computes, summed once, applied once."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from masslib.train.replicas import Replicas

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


# From this size on the update of the weights is compiled. Below it, a call of what XLA made costs what it saves.
_COMPILED_WEIGHTS = 200_000


def train_function(
    model: keras.Model, reduce: Callable, replicas: Replicas, *, accumulate: int, known_length: bool, dealt: bool
) -> Callable:
    """Build `run(iterator, count)`: it runs some train steps and returns the last logs, None at the end of the data.

    Args:
        model: The compiled model; its own `train_step` is run.
        reduce: What sums a list of tensors over the replicas, in the context of each.
        replicas: The replicas of its strategy.
        accumulate: Parts that every global batch is computed in, one after another.
        known_length: Whether `count` steps can be run in one graph, since the data surely has as many batches.
        dealt: Whether the iterator gives this process its own part of every global batch, and not all of it.
    """
    from masslib.train.fused import train_step

    one = train_step(model)
    if replicas.count == accumulate == 1 and not _compiles_update(model):
        return _runner(model, one, known_length)
    cut = _Cut(replicas, accumulate, dealt)
    summed = _runner(model, _summed_step(model, one, reduce, replicas, cut), known_length)
    plain = _runner(model, _plain_step(model, one, cut), known_length)
    chosen = summed

    def run(iterator: Iterator, count: int) -> Any:
        nonlocal chosen
        try:
            return chosen(iterator, count)
        except _OtherOptimizersError:
            if accumulate > 1:
                raise ValueError(
                    f"accumulate={accumulate} needs a train_step that updates the weights once, through "
                    f"model.optimizer; that of {model.name!r} does not, so leave accumulate out"
                ) from None
            chosen = plain
            return chosen(iterator, count)

    return run


def _runner(model: keras.Model, step: Callable, known_length: bool) -> Callable:
    import tensorflow as tf

    if not model.run_eagerly:
        # As in Keras, a train_step is traced as it is written, without AutoGraph.
        # Inlined into a graph, a step of several replicas is optimized together with what stands around it, and rounds
        # in another way as the first step of a call than as a later one. So it stays a function.
        apart = {"_noinline": True} if model.distribute_strategy.num_replicas_in_sync > 1 else None
        step = tf.function(
            step,
            jit_compile=model.jit_compile,
            reduce_retracing=True,
            autograph=False,
            experimental_attributes=apart,
        )

    @tf.function
    def many(iterator: Iterator, count: tf.Tensor) -> Any:
        logs = step(next(iterator))
        for _ in tf.range(count - 1):
            logs = step(next(iterator))
        return _mean(model.distribute_strategy, logs)

    def one(iterator: Iterator, count: int) -> Any:
        # The batch is fetched on the host: a graph that runs into the end of the data still executes what
        # does not depend on the batch, such as the count of the optimizer's iterations.
        batch = next(iterator, None)
        return None if batch is None else _mean(model.distribute_strategy, step(batch))

    if known_length and not model.run_eagerly:
        return lambda iterator, count: many(iterator, tf.constant(count))
    return one


class _OtherOptimizersError(Exception):
    """A train step updated the weights some other way than once, by dense gradients, through `model.optimizer`."""


def _compiles_update(model: keras.Model) -> bool:
    """Whether XLA compiles the update of the weights, and nothing else of the step.

    Keras' optimizers pass over all weights many times, XLA's code once: a step of `small_cnn` gets 1.1 times faster. A
    call of it costs about 0.1 ms, which a small model does not win back.
    """
    optimizer = model.optimizer
    weights = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    return (
        weights >= _COMPILED_WEIGHTS
        and model.distribute_strategy.num_replicas_in_sync == 1
        and not (model.run_eagerly or model.jit_compile or optimizer.use_ema)
        and _is_built_in(optimizer)
    )


def _is_built_in(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether optimizer and learning rate are of Keras' own making, which XLA surely compiles."""
    try:
        rate = optimizer.get_config().get("learning_rate")
    except Exception:  # whatever a schedule or a function of the user's raises that cannot be written down
        return False
    own_schedule = isinstance(rate, dict) and rate.get("module") == "keras.optimizers.schedules"
    return type(optimizer).__module__.startswith("keras.") and (isinstance(rate, float) or own_schedule)


class _GradientTap(threading.local):
    """Stands in for `model.optimizer` while `train_step` is traced, and keeps the gradients.

    So they can be summed over the replicas once, as one flat tensor, and the real optimizer clips and applies the
    sum. Keras clips before it sums, which gives another result on two replicas than on one. Each replica is traced
    in a thread of its own, hence the thread-local memory.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer):
        self.optimizer = optimizer
        self.updates: list[tuple[list, list]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)

    def apply_gradients(self, grads_and_vars: Any) -> Any:
        grads, variables = zip(*grads_and_vars, strict=True)
        self.apply(grads, variables)
        return self.optimizer.iterations

    def apply(self, grads: Any, trainable_variables: Any) -> None:
        self.updates.append((list(grads), list(trainable_variables)))

    def take(self) -> tuple[list, list]:
        updates, self.updates = self.updates, []
        if len(updates) != 1:
            raise _OtherOptimizersError
        return updates[0]


def _summed_step(model: keras.Model, train_step: Callable, reduce: Callable, replicas: Replicas, cut: _Cut) -> Callable:
    import tensorflow as tf

    strategy, optimizer, accumulate = model.distribute_strategy, model.optimizer, cut.accumulate
    tap = _GradientTap(optimizer)
    trained: list[Any] = []

    def replica_step(batch: Any) -> tuple[Any, list]:
        sums: list[tf.Tensor] = []
        for part in range(accumulate):
            logs = train_step(cut.part(batch, part))
            updates = [(g, v) for g, v in zip(*tap.take(), strict=True) if g is not None]
            if replicas.count == accumulate == 1 and any(isinstance(g, tf.IndexedSlices) for g, _ in updates):
                raise _OtherOptimizersError  # an embedding: the optimizer by itself updates only the rows in use
            grads = [tf.convert_to_tensor(g) for g, _ in updates]
            grads = [g / accumulate for g in grads] if accumulate > 1 else grads
            sums = [a + b for a, b in zip(sums, grads, strict=True)] if sums else grads
            trained[:] = [v for _, v in updates]
        return logs, reduce(sums) if replicas.count > 1 else sums

    def apply(grads: list[tf.Tensor]) -> None:
        optimizer.apply(grads, trained)

    if _compiles_update(model):
        apply = tf.function(apply, jit_compile=True, autograph=False)

    def step(batch: Any) -> Any:
        model.optimizer = tap
        try:
            logs, sums = strategy.run(replica_step, (batch,))
        finally:
            model.optimizer = optimizer
        # All replicas hold the same sums. Outside of the strategy's scope the optimizer updates every copy of a
        # variable, and sums nothing a second time.
        apply([strategy.experimental_local_results(value)[0] for value in sums])
        return logs

    return step


def _plain_step(model: keras.Model, train_step: Callable, cut: _Cut) -> Callable:
    """Let the optimizers of the model do the summing, as Keras does."""
    strategy = model.distribute_strategy

    def replica_step(batch: Any) -> Any:
        return train_step(cut.part(batch, 0))

    return lambda batch: strategy.run(replica_step, (batch,))


@dataclass(frozen=True)
class _Cut:
    """How a batch is cut into the rows of each replica and part, on the host, so that only they go to the device."""

    replicas: Replicas
    accumulate: int
    dealt: bool

    def part(self, batch: Any, number: int) -> Any:
        """Return the rows of one part for the replica in whose context this is called."""
        import tensorflow as tf

        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        count = self.replicas.count
        if self.dealt:
            replica, count = replica - self.replicas.first, self.replicas.local
        parts = count * self.accumulate
        if parts == 1:
            return batch

        def cut(tensor: tf.Tensor) -> tf.Tensor:
            size, position = tf.shape(tensor)[0] // parts, number * count + replica
            rows = tensor[position * size : (position + 1) * size]
            return tf.ensure_shape(rows, [None, *tensor.shape[1:]])

        with tf.device("CPU:0"):
            return tf.nest.map_structure(cut, batch)


def _mean(strategy: tf.distribute.Strategy, logs: Any) -> Any:
    import tensorflow as tf

    if strategy.num_replicas_in_sync == 1:
        return logs
    return {name: strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None) for name, value in logs.items()}
