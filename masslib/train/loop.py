"""`fit`: Keras' training loop, under every strategy."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from masslib.checkpoint import Checkpoints
from masslib.data import Subset
from masslib.train.feed import Feed, feed, validation_batches
from masslib.train.resume import Journal
from masslib.train.state import State
from masslib.train.step import train_function

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# Steps that run inside one call of a tf.function. The host's share of a small step is larger than the step
# itself: an MLP at batch 32 trains 2.9 times faster with 100 steps per call than with one.
_STEPS_PER_CALL = 50


def fit(
    model: keras.Model,
    x: Subset | tf.data.Dataset | Any,
    y: Any = None,
    *,
    batch_size: int = 32,
    epochs: int = 1,
    verbose: str | int = "auto",
    callbacks: Sequence[keras.callbacks.Callback] | None = None,
    validation_data: Subset | tf.data.Dataset | tuple | None = None,
    shuffle: bool = True,
    class_weight: Mapping[int, float] | None = None,
    seed: int = 0,
    augment: keras.layers.Layer | None = None,
    accumulate: int = 1,
    on_nan: str = "stop",
    checkpoint: str | os.PathLike[str] | None = None,
    save_every: int | None = None,
    keep: int = 3,
    resume: bool = True,
) -> keras.callbacks.History:
    """Train a compiled Keras 3 model; the arguments mean what they mean in `model.fit`.

    It runs the model's own `train_step`, so models that override it train too. Under a strategy with several
    replicas each computes its part of the global batch; the gradients are summed once, and clipped after that, so
    that the result is the one of a single device.

    Several steps run inside one call of a `tf.function`, unless a callback of yours looks at every batch or the model
    was compiled with `run_eagerly=True`; built-in callbacks then see the last step of each call, as with Keras'
    `steps_per_execution`.

    Args:
        model: A compiled Keras 3 model, made in the scope of the strategy it is to be trained under.
        x: A `Subset`, an array `(n, ...)` with `y`, or a batched `tf.data.Dataset` of `(x, y)` or
            `(x, y, sample_weight)`.
        y: Labels `(n,)` when `x` is an array.
        batch_size: The global batch: rows per training step, over all replicas; it must be divisible by them. It never
            changes the learning rate. Ignored for a `tf.data.Dataset`.
        epochs: Passes over the data.
        verbose: 0 is silent, 1 (and `"auto"`) a progress bar, 2 one line per epoch.
        callbacks: Keras callbacks.
        validation_data: What to evaluate on after each epoch: a `Subset`, a pair of arrays, or a dataset.
        shuffle: Whether each epoch has its own order of the rows, drawn from `seed`.
        class_weight: Class -> weight of its rows in the loss.
        seed: Seed of the order and of `augment`; the same seed gives the same batches on any number of replicas.
        augment: A Keras preprocessing layer applied to the training images, see `Subset.batches`.
        accumulate: Compute every global batch in so many parts, one after another: the same result in less memory.
        on_nan: What to do when loss or weights are no longer finite: `"stop"` the training with a warning,
            `"restore"` the newest checkpoint and stop, or `"ignore"` it.
        checkpoint: Folder for checkpoints. What lies there is resumed, to the bit; a finished run returns its History.
        save_every: Steps between checkpoints; besides, one is written after every epoch.
        keep: How many of the newest checkpoints are kept.
        resume: `False` refuses a folder that holds checkpoints.

    Returns:
        The Keras `History`: `.history` maps the names of loss and metrics to one value per epoch.

    Raises:
        TypeError: If `model` is not a Keras 3 model, or the data is of another type.
        ValueError: If the model is not compiled, a number is out of range or not divisible by the replicas, or the
            checkpoint belongs to another training.
        RuntimeError: If another run uses the checkpoint folder.

    Example:
        >>> import masslib, numpy as np
        >>> model = masslib.models.mlp((4,), 3)
        >>> model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> x, y = np.zeros((60, 4), "float32"), np.arange(60) % 3
        >>> history = masslib.fit(model, x, y, epochs=2, verbose=0)
        >>> sorted(history.history), len(history.history["loss"])
        (['accuracy', 'loss'], 2)
    """
    import keras

    _check(model, epochs=epochs, verbose=verbose, accumulate=accumulate, on_nan=on_nan, save_every=save_every)
    if on_nan == "restore" and checkpoint is None:
        raise ValueError("on_nan='restore' needs checkpoints; pass checkpoint=folder")
    verbose = 1 if verbose == "auto" else verbose
    callbacks = list(callbacks or [])
    source = feed(
        x,
        y,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        epochs=epochs,
        parts=model.distribute_strategy.num_replicas_in_sync * accumulate,
        class_weight=class_weight,
        augment=augment,
    )
    validation = validation_batches(validation_data, batch_size)
    watchers = keras.callbacks.CallbackList(
        callbacks,
        add_history=True,
        add_progbar=verbose != 0,
        model=model,
        verbose=verbose,
        epochs=epochs,
        steps=source.steps,
    )
    with contextlib.ExitStack() as stack:
        checkpoints = None
        if checkpoint is not None:
            checkpoints = stack.enter_context(Checkpoints(checkpoint, keep=keep))
            if checkpoints.paths() and not resume:
                raise ValueError(f"{checkpoint} holds checkpoints and resume=False; delete them or name another folder")
        _build(model, source, complete=checkpoints is not None)
        settings = {"batch_size": batch_size, "seed": seed, "shuffle": shuffle, "rows": source.rows}
        journal = Journal(model, State(model), checkpoints, settings)
        run_steps = train_function(model, accumulate, known_length=source.steps is not None)
        per_call = _steps_per_call(model, callbacks)
        epoch = _Epoch(model, source, watchers, run_steps, per_call, journal, save_every, on_nan)
        _train(model, epoch, validation, watchers, journal, epochs)
    return model.history


def _train(
    model: keras.Model,
    epoch: _Epoch,
    validation: tf.data.Dataset | None,
    watchers: keras.callbacks.CallbackList,
    journal: Journal,
    epochs: int,
) -> None:
    model.stop_training = False
    watchers.on_train_begin()
    logs: dict[str, float] = {}
    model.stop_training = not journal.resume()
    while journal.epoch < epochs and not model.stop_training:
        watchers.on_epoch_begin(journal.epoch)
        logs = epoch.run()
        if validation is not None:
            results = model.evaluate(validation, verbose=0, return_dict=True, callbacks=watchers)
            logs |= {f"val_{name}": value for name, value in results.items()}
        watchers.on_epoch_end(journal.epoch, logs)
        journal.end_epoch()
    watchers.on_train_end(logs)
    if logs and model.stop_training:
        journal.save(stopped=True)


@dataclass(frozen=True)
class _Epoch:
    """Runs the steps of one epoch, those that are left of it."""

    model: keras.Model
    source: Feed
    watchers: keras.callbacks.CallbackList
    run_steps: Callable
    per_call: int
    journal: Journal
    save_every: int | None
    on_nan: str

    def run(self) -> dict[str, float]:
        model, journal, steps = self.model, self.journal, self.source.steps
        logs: dict[str, float] = {}
        if journal.step == 0:
            model.reset_metrics()
        iterator = self.source.start(journal.epoch, journal.step)
        while (steps is None or journal.step < steps) and not model.stop_training:
            self.watchers.on_train_batch_begin(journal.step)
            count = self._count()
            result = self.run_steps(iterator, count)
            if result is None:
                break
            logs = _floats(result)
            journal.advance(count)
            self.watchers.on_train_batch_end(journal.step - 1, logs)
            if self.on_nan != "ignore" and journal.lost(logs, restore=self.on_nan == "restore"):
                model.stop_training = True
            elif self.save_every and journal.total % self.save_every == 0 and journal.step != steps:
                journal.save()
        journal.average()
        if model.loss is None:  # what train_step returned is all there is
            return logs
        metrics = _floats(model.get_metrics_result())
        return metrics if metrics.keys() >= logs.keys() else logs

    def _count(self) -> int:
        """How many steps the next call runs: not beyond the epoch, nor beyond the next checkpoint."""
        if self.source.steps is None:
            return 1
        count = min(self.per_call, self.source.steps - self.journal.step)
        return min(count, self.save_every - self.journal.total % self.save_every) if self.save_every else count


def _build(model: keras.Model, source: Feed, *, complete: bool) -> None:
    """Make the variables that Keras makes late.

    Those of the optimizer always; those of the metrics, when they are to be found in a checkpoint or when a graph of
    several replicas is to be traced, which cannot make any.
    """
    with model.distribute_strategy.scope():
        model.optimizer.build(model.trainable_variables)
        if model.loss is not None and (complete or model.distribute_strategy.num_replicas_in_sync > 1):
            model.test_on_batch(*source.sample())
            model.reset_metrics()


def _steps_per_call(model: keras.Model, callbacks: Sequence[keras.callbacks.Callback]) -> int:
    import keras

    if model.run_eagerly:
        return 1
    hooks = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    watching = any(
        getattr(type(callback), hook) != getattr(keras.callbacks.Callback, hook)
        for callback in callbacks
        if not type(callback).__module__.startswith("keras.") or isinstance(callback, keras.callbacks.LambdaCallback)
        for hook in hooks
    )
    return model.steps_per_execution if watching or model.steps_per_execution > 1 else _STEPS_PER_CALL


def _floats(logs: Any) -> dict[str, float]:
    return {name: float(value) for name, value in logs.items()}


def _check(model: Any, *, epochs: Any, verbose: Any, accumulate: Any, on_nan: Any, save_every: Any) -> None:
    import keras

    if not isinstance(model, keras.Model):
        raise TypeError(
            f"expected a Keras 3 model, got {type(model).__module__}.{type(model).__name__}; "
            "build it with `import keras`"
        )
    if not model.compiled:
        raise ValueError(f"model {model.name!r} is not compiled; call model.compile(optimizer=..., loss=...)")
    for name, value in {"epochs": epochs, "accumulate": accumulate, "save_every": save_every}.items():
        optional = name == "save_every" and value is None
        if not optional and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ValueError(f"{name}={value!r}: expected a positive integer")
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f"verbose={verbose!r}: expected 'auto', 0, 1 or 2")
    if on_nan not in ("stop", "restore", "ignore"):
        raise ValueError(f"on_nan={on_nan!r}: expected 'stop', 'restore' or 'ignore'")
