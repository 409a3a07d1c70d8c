"""The train step: what every replica computes, summed once, applied once."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from masslib.train.replicas import Replicas
from masslib.train.rows import number_of_rows, rows_between

# From this size on the update of the weights is compiled. Below it, a call of what XLA made costs what it saves.
_COMPILED_WEIGHTS = 200_000


def train_function(
    model: keras.Model,
    reduce: Callable,
    replicas: Replicas,
    *,
    accumulate: int,
    known_length: bool,
    is_sharded: bool,
    fused: bool,
) -> Callable:
    """Build `run(iterator, count)`: it runs up to `count` train steps and returns how many it made and the last logs.

    Args:
        model: The compiled model; its own `train_step` is run.
        reduce: What sums a list of tensors over the replicas, in the context of each.
        replicas: The replicas of its strategy.
        accumulate: Parts that every global batch is computed in, one after another.
        known_length: Whether `count` steps can be run in one graph, since the data surely has as many batches.
        is_sharded: Whether the iterator gives this process its own part of every global batch, and not all of it.
        fused: Whether fused kernels may compute batch normalizations and the update of the weights.
    """
    from masslib.train.fused import with_fused_normalization

    compiled = fused and _compiles_update(model)

    def runner(step: Callable) -> Callable:
        return _runner(model, with_fused_normalization(model, step) if fused else step, known_length)

    if replicas.count == accumulate == 1 and not compiled:
        return runner(model.train_step)
    cut = _Cut(replicas, accumulate, is_sharded)
    summed = runner(_summed_step(model, reduce, replicas, cut, compiled=compiled))
    plain = runner(_plain_step(model, cut))
    chosen = summed
    unbuilt = [optimizer for optimizer in other_optimizers(model) if not optimizer.built]

    def run(iterator: Iterator, count: int) -> tuple[int, Any]:
        nonlocal chosen
        try:
            return chosen(iterator, count)
        except _OtherOptimizersError:
            if accumulate > 1:
                raise ValueError(
                    f"accumulate={accumulate} needs a train_step that updates the weights once, through "
                    f"model.optimizer; that of {model.name!r} does not, so leave accumulate out"
                ) from None
            late = [optimizer.name for optimizer in unbuilt if optimizer.built]
            if replicas.count > 1 and late:
                raise ValueError(
                    f"the optimizers {', '.join(late)} of {model.name!r} have no variables yet, and a step of several "
                    "replicas cannot make any; call optimizer.build(variables) in the scope of the strategy"
                ) from None
            chosen = plain
            return chosen(iterator, count)

    return run


def _runner(model: keras.Model, step: Callable, known_length: bool) -> Callable:
    strategy = model.distribute_strategy
    if model.run_eagerly:
        return lambda iterator, count: _some(iterator, count, step, strategy)
    # As in Keras, a train_step is traced as it is written, without AutoGraph.
    step = tf.function(step, jit_compile=model.jit_compile, reduce_retracing=True, autograph=False)

    @tf.function(autograph=False)
    def many(iterator: Iterator, count: tf.Tensor) -> Any:
        # The step stands in the graph once: of two copies, each would begin the random numbers of tf.random anew.
        logs = step.get_concrete_function(iterator.element_spec).structured_outputs
        like = tf.nest.flatten(logs, expand_composites=True)
        _, *last = tf.while_loop(
            lambda number, *_: number < count,
            lambda number, *_: [number + 1, *tf.nest.flatten(step(next(iterator)), expand_composites=True)],
            [tf.constant(0), *(tf.zeros([size or 0 for size in tensor.shape], tensor.dtype) for tensor in like)],
            shape_invariants=[tf.TensorShape([]), *(tensor.shape for tensor in like)],
        )
        return _mean(strategy, tf.nest.pack_sequence_as(logs, last, expand_composites=True))

    if known_length:
        return lambda iterator, count: (count, many(iterator, tf.constant(count)))

    def some(iterator: Iterator, count: int) -> tuple[int, Any]:
        # Of the shape of the data, not of each batch: a step that is traced twice draws its random numbers twice.
        return _some(iterator, count, step.get_concrete_function(iterator.element_spec), strategy)

    return some


def _some(iterator: Iterator, count: int, step: Callable, strategy: tf.distribute.Strategy) -> tuple[int, Any]:
    """Run up to `count` steps, each from the host; return how many there were and the last logs.

    A graph that runs into the end of the data still executes what does not depend on the batch, such as the count of
    the optimizer's iterations.
    """
    made, logs = 0, {}
    for batch in itertools.islice(iterator, count):
        made, logs = made + 1, step(batch)
    return made, _mean(strategy, logs)


class _OtherOptimizersError(Exception):
    """A train step updated the weights some other way than once, by dense gradients, through `model.optimizer`."""


def other_optimizers(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    """Optimizers that a model has besides the one it is compiled with."""
    values: list[Any] = []
    for value in vars(model).values():
        parts = value.values() if isinstance(value, dict) else value
        values += parts if isinstance(parts, list | tuple) else [parts]
    found = [value for value in values if isinstance(value, keras.optimizers.Optimizer)]
    return list({id(optimizer): optimizer for optimizer in found if optimizer is not model.optimizer}.values())


def _compiles_update(model: keras.Model) -> bool:
    """Whether XLA compiles the update of the weights, and nothing else of the step.

    Keras' optimizers pass over all weights many times, XLA's code once: a step of `small_cnn` gets 1.1 times faster. A
    call of it costs about 0.1 ms, which a small model does not win back.
    """
    optimizer = model.optimizer
    weights = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    return (
        optimizer is not None
        and weights >= _COMPILED_WEIGHTS
        and model.distribute_strategy.num_replicas_in_sync == 1
        and not (model.run_eagerly or model.jit_compile or optimizer.use_ema)
        and _is_built_in(optimizer)
    )


def config_of(optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """The settings of an optimizer; none where they cannot be written down."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of functions, which it cannot write down either
            return optimizer.get_config()
    except Exception:  # whatever a schedule or a function of the user's raises that cannot be written down
        return {}


def _is_built_in(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether optimizer and learning rate are of Keras' own making, which XLA surely compiles."""
    rate = config_of(optimizer).get("learning_rate")
    own_schedule = isinstance(rate, dict) and rate.get("module") == "keras.optimizers.schedules"
    return type(optimizer).__module__.startswith("keras.") and (isinstance(rate, float) or own_schedule)


class _GradientTap:
    """Keeps the gradients that `train_step` hands to `optimizer.apply`, which it replaces meanwhile.

    So they can be summed over the replicas once, as one flat tensor, and the optimizer clips and applies the sum. Keras
    clips before it sums, which gives another result on two replicas than on one. In all else the optimizer stays what
    it is while the step is traced: its iterations, its learning rate, its `apply_gradients` and its class.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer | None):
        self._optimizer = optimizer
        self._replica = threading.local()  # each replica is traced in a thread of its own

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Keep gradients for as long as the context lasts."""
        if self._optimizer is None:
            yield
            return
        own = vars(self._optimizer).get("apply")
        self._optimizer.apply = self._keep
        try:
            yield
        finally:
            del self._optimizer.apply
            if own is not None:
                self._optimizer.apply = own

    def _keep(self, grads: Any, trainable_variables: Any = None) -> None:
        if trainable_variables is None:  # those that the optimizer knows, and no public name tells
            raise _OtherOptimizersError
        self._replica.updates = [*self._updates(), (list(grads), list(trainable_variables))]

    def _updates(self) -> list[tuple[list, list]]:
        return getattr(self._replica, "updates", [])

    def take(self) -> tuple[list, list]:
        """Return the gradients of this replica and their variables, and forget them."""
        updates, self._replica.updates = self._updates(), []
        if len(updates) != 1:
            raise _OtherOptimizersError
        return updates[0]


def _dense(gradient: Any, variable: keras.Variable) -> tf.Tensor:
    """The gradient as a tensor of the shape of its variable, which that of `Dense` on sequences does not know."""
    dense = tf.convert_to_tensor(gradient)
    dense.set_shape(variable.shape)
    return dense


def _summed_step(model: keras.Model, reduce: Callable, replicas: Replicas, cut: _Cut, *, compiled: bool) -> Callable:
    strategy, optimizer, accumulate = model.distribute_strategy, model.optimizer, cut.accumulate
    tap = _GradientTap(optimizer)
    trained: list[Any] = []
    missing: list[bool] = []

    def replica_step(batch: Any) -> tuple[Any, list]:
        sums: list[tf.Tensor] = []
        for part in range(accumulate):
            logs = model.train_step(cut.part(batch, part))
            grads, trained[:] = tap.take()
            if replicas.count == accumulate == 1 and any(isinstance(g, tf.IndexedSlices) for g in grads):
                raise _OtherOptimizersError  # an embedding: the optimizer by itself updates only the rows in use
            missing[:] = [g is None for g in grads]
            grads = [_dense(g, v) for g, v in zip(grads, trained, strict=True) if g is not None]
            grads = [g / accumulate for g in grads] if accumulate > 1 else grads
            sums = [a + b for a, b in zip(sums, grads, strict=True)] if sums else grads
        return logs, reduce(sums) if replicas.count > 1 else sums

    def apply(grads: list[tf.Tensor]) -> None:
        left = iter(grads)  # Keras warns of those that are missing
        optimizer.apply([None if absent else next(left) for absent in missing], trained)

    if compiled:
        apply = tf.function(apply, jit_compile=True, autograph=False)

    def step(batch: Any) -> Any:
        with tap.open():
            logs, sums = strategy.run(replica_step, (batch,))
        # All replicas hold the same sums. Outside of the strategy's scope the optimizer updates every copy of a
        # variable, and sums nothing a second time.
        apply([strategy.experimental_local_results(value)[0] for value in sums])
        return logs

    return step


def _plain_step(model: keras.Model, cut: _Cut) -> Callable:
    """Let the optimizers of the model do the summing, as Keras does."""
    strategy = model.distribute_strategy

    def replica_step(batch: Any) -> Any:
        return model.train_step(cut.part(batch, 0))

    return lambda batch: strategy.run(replica_step, (batch,))


@dataclass(frozen=True)
class _Cut:
    """How a batch is cut into the rows of each replica and part, on the host, so that only they go to the device."""

    replicas: Replicas
    accumulate: int
    is_sharded: bool

    def part(self, batch: Any, number: int) -> Any:
        """Return the rows of one part for the replica in whose context this is called."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        count = self.replicas.count
        if self.is_sharded:
            replica, count = replica - self.replicas.first, self.replicas.local
        parts = count * self.accumulate
        if parts == 1:
            return batch

        def cut(tensor: Any) -> Any:
            size, position = number_of_rows(tensor) // parts, number * count + replica
            return rows_between(tensor, position * size, (position + 1) * size)

        with tf.device("CPU:0"):
            return tf.nest.map_structure(cut, batch)


def _mean(strategy: tf.distribute.Strategy, logs: Any) -> Any:
    if strategy.num_replicas_in_sync == 1:
        return logs
    return tf.nest.map_structure(lambda value: strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None), logs)
