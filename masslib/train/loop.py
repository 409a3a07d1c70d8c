"""`fit`: Keras' training loop, under every strategy."""

from __future__ import annotations

import collections
import contextlib
import functools
import math
import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from masslib._util import kernels
from masslib._util.quiet import quiet_logger
from masslib.data import Subset
from masslib.graph.checks import check_keras_3
from masslib.train import parameter_server
from masslib.train.alike import check_alike, check_learning_rate
from masslib.train.epoch import Epoch, steps_per_call
from masslib.train.feed import feed, validation_batches
from masslib.train.keeper import keeper
from masslib.train.replicas import Replicas, all_reduce
from masslib.train.resume import Journal
from masslib.train.shared_memory import shared_memory
from masslib.train.state import State, check_complete
from masslib.train.step import train_function
from masslib.train.validation import Evaluator
from masslib.train.variables import Variables
from masslib.train.workers import Termination, gone_workers_named, on_this_worker


def fit(
    model: keras.Model,
    x: Subset | tf.data.Dataset | Any,
    y: Any = None,
    *,
    batch_size: int = 32,
    epochs: int = 1,
    verbose: str | int = "auto",
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.Callback | None = None,
    validation_data: Subset | tf.data.Dataset | tuple | None = None,
    shuffle: bool = True,
    class_weight: Mapping[int, float] | None = None,
    seed: int = 0,
    augment: keras.layers.Layer | None = None,
    accumulate: int = 1,
    wire: str = "auto",
    fused: bool = True,
    on_nan: str = "stop",
    checkpoint: str | os.PathLike[str] | None = None,
    save_every: int | None = None,
    keep: int = 3,
    resume: bool = True,
) -> keras.callbacks.History:
    """Train a compiled Keras 3 model; the arguments mean what they mean in `model.fit`.

    It runs the model's own `train_step`, so models that override it train too. `fused=False` gives the weights of
    `model.fit`, bit for bit.

    Under a strategy with several replicas each computes its part of the global batch; the gradients are summed once,
    and clipped after that, so that the result is the one of a single device.

    Several workers call it alike, each in its own process (see `masslib.launch`), and all get the same History. Each
    reads its rows of a `Subset`; of a `tf.data.Dataset` each reads every batch and takes its rows of it, so the
    dataset must give the same batches on all. Only rank 0 shows progress and writes files. SIGTERM to any of them makes
    one common checkpoint and ends all. With a parameter server, steps run asynchronously, see `masslib.strategy`.

    Several steps run inside one call of a `tf.function`, unless a callback looks at every batch (`ModelCheckpoint` with
    a number as `save_freq` and `TensorBoard` with one as `update_freq` included) or the model was compiled with
    `run_eagerly=True`. Callbacks see the batch numbers and logs that they see in `model.fit`.

    Args:
        model: A compiled Keras 3 model, made in the scope of the strategy it is to be trained under.
        x: A `Subset`; an array `(n, ...)`, or a dict, list or tuple of arrays, handed over as Keras does; or a batched
            `tf.data.Dataset` of `x`, `(x, y)` or `(x, y, sample_weight)`, ragged and sparse tensors included. Several
            replicas leave out the rows of its batches that they cannot divide evenly; a batch with fewer rows than
            replicas is computed by each of them.
        y: Labels `(n, ...)` when `x` is arrays, or a dict, list or tuple of them; None for a model that needs none.
        batch_size: The global batch: rows per training step, over all replicas; it must be divisible by them. It never
            changes the learning rate. Ignored for a `tf.data.Dataset`.
        epochs: Passes over the data.
        verbose: 0 is silent, 1 (and `"auto"`) a progress bar, 2 one line per epoch.
        callbacks: A Keras callback, or a list of them.
        validation_data: What to evaluate on after each epoch: a `Subset`, a pair of arrays, or a dataset.
        shuffle: Whether each epoch has its own order of the rows, drawn from `seed`.
        class_weight: Class -> weight of its rows in the loss; 1 for those it does not name.
        seed: Seed of the order and of `augment`; the same seed gives the same batches on any number of replicas.
        augment: A Keras preprocessing layer applied to the training images, see `Subset.batches`.
        accumulate: Compute every global batch in so many parts, one after another: the same result in less memory,
            unless masks or weights let rows count differently in the mean of each part.
        wire: How the gradients of several replicas meet. `"float32"` and `"float16"` send them through TensorFlow's
            collectives, the latter with half of the bytes, which is faster where the network is the limit; the sums
            then have three digits. `"auto"` lets workers on one machine without GPUs add them up in shared memory,
            and is `"float32"` elsewhere.
        fused: Let one kernel compute batch normalizations of float32 images, and XLA compile the weight update of
            models with 200,000 weights or more. Both are faster and round differently: losses agree with those of
            `model.fit` to about 1e-5 at first, and drift apart as they do after any other change of the rounding.
        on_nan: What to do when loss or trained weights are no longer finite: `"stop"` the training with a warning,
            `"restore"` the newest checkpoint and stop, or `"ignore"` it. What is not finite is kept in a checkpoint by
            `"ignore"` only, so after `"stop"` the next call goes on from the last good one.
        checkpoint: Folder for checkpoints. Resumes bit-exactly from the newest checkpoint there; a finished run returns
            its History. Not kept are the counters of callbacks, such as the patience of EarlyStopping, and the state of
            `tf.random`; that of `keras.random` and `Dropout` is.
        save_every: Steps between checkpoints; one more is written after every epoch. A killed process loses nothing
            that was saved, a power cut at most what was saved in the last 30 s.
        keep: How many of the newest checkpoints are kept, plus the last one flushed to disk.
        resume: `False` refuses a folder that holds checkpoints.

    Returns:
        The Keras `History`: `.history` maps the names of loss and metrics to one value per epoch.

    Raises:
        TypeError: If `model` is not a Keras 3 model, or the data is of another type.
        ValueError: If the model is not compiled, a number is out of range or not divisible by the replicas, the data
            gives no batch, a loss to accumulate is a sum, or the checkpoint belongs to another training or cannot hold
            this one.
        RuntimeError: If another run uses the checkpoint folder, or another worker has gone.

    Example:
        >>> import masslib, numpy as np
        >>> model = masslib.models.mlp((4,), 3)
        >>> model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> x, y = np.zeros((60, 4), "float32"), np.arange(60) % 3
        >>> history = masslib.fit(model, x, y, epochs=2, verbose=0)
        >>> sorted(history.history), len(history.history["loss"])
        (['accuracy', 'loss'], 2)
    """
    _check(
        model, epochs=epochs, verbose=verbose, accumulate=accumulate, wire=wire, on_nan=on_nan, save_every=save_every
    )
    if on_nan == "restore" and checkpoint is None:
        raise ValueError("on_nan='restore' needs checkpoints; pass checkpoint=folder")
    if checkpoint is not None:
        check_complete(model)
    kernels.warn_if_off()
    replicas = Replicas(model.distribute_strategy)
    if replicas.local > 1 and tf.distribute.has_strategy():
        raise ValueError(
            "fit was called inside of strategy.scope(); build and compile the model there, and fit after it"
        )
    if replicas.count > 1 and not _is_made_under(replicas.strategy, model.optimizer):
        raise ValueError(
            f"the {type(model.optimizer).__name__} optimizer was made outside of strategy.scope(); make it there, and "
            "compile the model with it"
        )
    served = parameter_server.serves(model)
    if served:
        parameter_server.check(model, accumulate=accumulate, wire=wire)
    verbose = (1 if verbose == "auto" else verbose) if replicas.is_chief else 0
    callbacks = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else list(callbacks or [])
    callbacks = on_this_worker(callbacks, replicas)
    source = feed(
        x,
        y,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        epochs=epochs,
        replicas=replicas,
        accumulate=accumulate,
        class_weight=class_weight,
        augment=augment,
    )
    validation = validation_batches(validation_data, batch_size)
    variables = Variables(model, source, replicas, complete=checkpoint is not None)
    variables.make_weights()
    watchers = keras.callbacks.CallbackList(
        callbacks,
        add_history=True,
        add_progbar=verbose != 0,
        model=model,
        verbose=verbose,
        epochs=epochs,
        steps=source.steps,
    )
    settings = {"batch_size": batch_size, "seed": seed, "shuffle": shuffle, "rows": source.rows}
    alike = {"accumulate": accumulate, "wire": wire, "on_nan": on_nan, "save_every": save_every, "epochs": epochs}
    alike |= {"checkpoint": checkpoint is not None, "validation_data": validation is not None, "steps": source.steps}
    alike |= {"fused": fused, "run_eagerly": model.run_eagerly, "jit_compile": model.jit_compile}
    alike |= {"class_weight": class_weight, "augment": augment}
    with gone_workers_named(replicas):
        check_alike(model, settings | alike, callbacks, replicas)
    with (
        gone_workers_named(replicas),
        _quiet(model),
        keeper(checkpoint, replicas, keep=keep, resume=resume) as kept,
        Termination(replicas) as termination,
        shared_memory(replicas, _bytes(model), wanted=wire == "auto" and not model.jit_compile) as shared,
    ):
        variables.make_others(batch_size)
        journal = Journal(model, State(model, replicas), kept, settings)
        if served:
            epoch = parameter_server.ServedEpoch(model, source, watchers, journal, save_every, on_nan)
            evaluator = parameter_server.ServedEvaluator(model, epoch.crew)
        else:
            reduce = functools.partial(all_reduce, wire=wire, shared=shared)
            known = source.steps is not None
            run_steps = train_function(
                model,
                reduce,
                replicas,
                accumulate=accumulate,
                known_length=known,
                is_sharded=source.is_sharded,
                fused=fused,
            )
            # A callback of one worker alone that looks at every batch lets all of them run one step at a time.
            most = replicas.least(steps_per_call(model, callbacks))
            epoch = Epoch(model, source, watchers, run_steps, journal, replicas, termination, most, save_every, on_nan)
            evaluator = Evaluator(model, replicas)
        _train(model, epoch, evaluator, validation, watchers, journal, epochs, replicas)
    return model.history


def _train(
    model: keras.Model,
    epoch: Epoch | parameter_server.ServedEpoch,
    evaluator: Evaluator | parameter_server.ServedEvaluator,
    validation: tf.data.Dataset | None,
    watchers: keras.callbacks.CallbackList,
    journal: Journal,
    epochs: int,
    replicas: Replicas,
) -> None:
    model.stop_training = False
    watchers.on_train_begin()
    logs: dict[str, Any] = {}
    ended = not journal.resume()
    model.stop_training = ended
    while journal.epoch < epochs and not model.stop_training:
        watchers.on_epoch_begin(journal.epoch)
        check_learning_rate(model, replicas)
        logs = epoch.run()
        if validation is not None:
            logs |= {f"val_{name}": value for name, value in evaluator.run(validation, watchers).items()}
        watchers.on_epoch_end(journal.epoch, logs)
        (model.stop_training,), _ = replicas.agree(bool(model.stop_training))
        journal.end_epoch()
    if not ended and model.optimizer is not None:  # a finished run has them already
        model.optimizer.finalize_variable_values(model.trainable_variables)  # the averages of use_ema
    watchers.on_train_end(logs)
    if logs and model.stop_training:
        journal.save(stopped=True)


def _is_made_under(strategy: tf.distribute.Strategy, optimizer: keras.optimizers.Optimizer | None) -> bool:
    return optimizer is None or strategy.extended.variable_created_in_scope(optimizer.iterations.value)


def _quiet(model: keras.Model) -> contextlib.AbstractContextManager[None]:
    """Silence TensorFlow's logger under a strategy, which would tell of every collective; in a notebook on stdout."""
    default = model.distribute_strategy is tf.distribute.get_strategy()
    return contextlib.nullcontext() if default else quiet_logger()


def _bytes(model: keras.Model) -> int:
    """Bytes of the largest array to sum: the gradients of the variables of one dtype are summed at a time."""
    sizes: dict[str, int] = collections.Counter()
    for variable in model.trainable_variables:
        sizes[variable.dtype] += math.prod(variable.shape) * np.dtype(variable.dtype).itemsize
    return max(sizes.values(), default=0)


def _check(model: Any, *, epochs: Any, verbose: Any, accumulate: Any, wire: Any, on_nan: Any, save_every: Any) -> None:
    check_keras_3(model)
    if not model.compiled:
        raise ValueError(f"model {model.name!r} is not compiled; call model.compile(optimizer=..., loss=...)")
    for name, value in {"epochs": epochs, "accumulate": accumulate, "save_every": save_every}.items():
        optional = name == "save_every" and value is None
        if not optional and (not isinstance(value, Integral) or isinstance(value, bool) or value < 1):
            raise ValueError(f"{name}={value!r}: expected a positive integer")
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f"verbose={verbose!r}: expected 'auto', 0, 1 or 2")
    if wire not in ("auto", "float32", "float16"):
        raise ValueError(f"wire={wire!r}: expected 'auto', 'float32' or 'float16'")
    if on_nan not in ("stop", "restore", "ignore"):
        raise ValueError(f"on_nan={on_nan!r}: expected 'stop', 'restore' or 'ignore'")
    losses = keras.tree.flatten(model.loss)
    if accumulate != 1 and any(getattr(loss, "reduction", None) == "sum" for loss in losses):
        raise ValueError(
            f"accumulate={accumulate} takes the mean over its parts, and a loss of {model.name!r} is a sum; compile it "
            "with reduction='sum_over_batch_size'"
        )
