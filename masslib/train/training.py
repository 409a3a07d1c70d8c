"""The course of a training: what is made for it, its epochs, its end."""

from __future__ import annotations

import contextlib
import functools
import math
import warnings
from dataclasses import asdict
from typing import Any

import keras
import tensorflow as tf

from masslib._util.quiet import quiet_logger
from masslib.train import parameter_server
from masslib.train.alike import check_alike, check_learning_rate
from masslib.train.epoch import Epoch, steps_per_call
from masslib.train.feed import Feed
from masslib.train.held_out import HeldOut
from masslib.train.keeper import keeper
from masslib.train.kept import kept
from masslib.train.replicas import Replicas, all_reduce
from masslib.train.resume import Journal
from masslib.train.settings import Settings
from masslib.train.shared_memory import bytes_of, shared_memory
from masslib.train.state import State
from masslib.train.step import train_function
from masslib.train.validation import Evaluator
from masslib.train.variables import Variables
from masslib.train.workers import Termination, gone_workers_named, on_this_worker


def check_strategy(model: keras.Model, replicas: Replicas, settings: Settings) -> None:
    """Check that the model can be trained under its strategy.

    Raises:
        ValueError: It cannot.
    """
    if replicas.local > 1 and tf.distribute.has_strategy():
        raise ValueError(
            "fit was called inside of strategy.scope(); build and compile the model there, and fit after it"
        )
    optimizer = model.optimizer
    if (
        replicas.count > 1
        and optimizer is not None
        and not replicas.strategy.extended.variable_created_in_scope(optimizer.iterations.value)
    ):
        raise ValueError(
            f"the {type(optimizer).__name__} optimizer was made outside of strategy.scope(); make it there, and "
            "compile the model with it"
        )
    if parameter_server.serves(model):
        parameter_server.check(model, accumulate=settings.accumulate, wire=settings.wire)


def watching(
    model: keras.Model, callbacks: Any, settings: Settings, replicas: Replicas, steps: int | None
) -> keras.callbacks.CallbackList:
    """Make Keras' list of the callbacks that run on this worker, History and progress bar included."""
    verbose = (1 if settings.verbose == "auto" else settings.verbose) if replicas.is_chief else 0
    if isinstance(callbacks, keras.callbacks.CallbackList):
        on_this_worker(callbacks.callbacks, replicas)
        return callbacks
    callbacks = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else list(callbacks or [])
    return keras.callbacks.CallbackList(
        on_this_worker(callbacks, replicas),
        add_history=True,
        add_progbar=verbose != 0,
        model=model,
        verbose=verbose,
        epochs=settings.epochs,
        steps=steps,
    )


def train(
    model: keras.Model,
    source: Feed,
    valid: HeldOut | None,
    watchers: keras.callbacks.CallbackList,
    settings: Settings,
    replicas: Replicas,
    told: dict[str, Any],
) -> None:
    """Make the variables, the step and the journal, and train."""
    variables = Variables(model, source, replicas, complete=settings.checkpoint is not None)
    variables.make_weights()
    alike = asdict(settings) | told | {"rows": source.rows, "steps": source.steps}
    alike |= {"verbose": None, "keep": None, "resume": None, "checkpoint": settings.checkpoint is not None}
    alike |= {"run_eagerly": model.run_eagerly, "jit_compile": model.jit_compile}
    with gone_workers_named(replicas):
        check_alike(model, alike, watchers.callbacks, replicas)
    shares = settings.wire == "auto" and not model.jit_compile
    with (
        gone_workers_named(replicas),
        _quiet(model),
        keeper(settings.checkpoint, replicas, keep=settings.keep, resume=settings.resume) as store,
        Termination(replicas) as termination,
        shared_memory(replicas, _bytes(model), wanted=shares) as shared,
    ):
        variables.make_others(settings.batch_size)
        journal = Journal(model, State(model, replicas), store, _of_the_data(settings, source), settings.initial_epoch)
        epoch: Epoch | parameter_server.ServedEpoch
        evaluator: Evaluator | parameter_server.ServedEvaluator
        often, on_nan = settings.save_every, settings.on_nan
        if parameter_server.serves(model):
            epoch = parameter_server.ServedEpoch(model, source, watchers, journal, often, on_nan)
            evaluator = parameter_server.ServedEvaluator(model, epoch.crew)
        else:
            # What several replicas sum by is open for one training only, and what runs eagerly is not traced.
            once = replicas.count > 1 or model.run_eagerly
            options = {
                "accumulate": settings.accumulate,
                "known_length": source.is_counted,
                "is_sharded": source.is_sharded,
                "fused": settings.fused,
            }
            reduce = functools.partial(all_reduce, wire=settings.wire, shared=shared)
            make = functools.partial(train_function, model, reduce, replicas, **options)
            run_steps = make() if once else kept(model, tuple(options.items()), make)
            # A callback of one worker alone that looks at every batch lets all of them run one step at a time.
            most = replicas.least(steps_per_call(model, watchers.callbacks))
            epoch = Epoch(model, source, watchers, run_steps, journal, replicas, termination, most, often, on_nan)
            evaluator = Evaluator(model, replicas)
        _loop(model, epoch, evaluator, valid, watchers, journal, settings.epochs, replicas)


def _of_the_data(settings: Settings, source: Feed) -> dict[str, Any]:
    """What decides which rows a step sees, so that a checkpoint belongs to it; None where older ones have nothing."""
    return {
        "batch_size": settings.batch_size,
        "seed": settings.seed,
        "shuffle": settings.shuffle,
        "rows": source.rows,
        "steps_per_epoch": settings.steps_per_epoch,
        "initial_epoch": settings.initial_epoch or None,
    }


def _loop(
    model: keras.Model,
    epoch: Epoch | parameter_server.ServedEpoch,
    evaluator: Evaluator | parameter_server.ServedEvaluator,
    valid: HeldOut | None,
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
        if valid is not None and valid.is_due(journal.epoch):
            logs |= {f"val_{name}": value for name, value in valid.evaluated(evaluator, watchers).items()}
        watchers.on_epoch_end(journal.epoch, logs)
        (model.stop_training,), _ = replicas.agree(bool(model.stop_training))
        journal.end_epoch()
        if journal.epoch < epochs and not model.stop_training and epoch.source.is_used_up(journal.total):
            warnings.warn(
                f"the generator ended after {journal.total} batches, in epoch {journal.epoch} of {epochs}; the "
                "training ends. Pass steps_per_epoch, or what can be read again, such as a keras.utils.PyDataset",
                stacklevel=4,
            )
            break
    if not ended and model.optimizer is not None:  # a finished run has them already
        model.optimizer.finalize_variable_values(model.trainable_variables)  # the averages of use_ema
    watchers.on_train_end(logs)
    if logs and model.stop_training:
        journal.save(stopped=True)


def _quiet(model: keras.Model) -> contextlib.AbstractContextManager[None]:
    """Silence TensorFlow's logger under a strategy, which would tell of every collective; in a notebook on stdout."""
    default = model.distribute_strategy is tf.distribute.get_strategy()
    return contextlib.nullcontext() if default else quiet_logger()


def _bytes(model: keras.Model) -> int:
    """Bytes of the gradients of a model, which are summed at once."""
    return bytes_of((math.prod(variable.shape), variable.dtype) for variable in model.trainable_variables)
