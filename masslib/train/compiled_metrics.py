"""`evaluate_compiled`: Keras' `evaluate`, under every strategy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from masslib._util.checks import check_count
from masslib.data import Subset
from masslib.graph.checks import check_keras_3
from masslib.train import parameter_server
from masslib.train.given import given
from masslib.train.held_out import held_out
from masslib.train.replicas import Replicas
from masslib.train.validation import Evaluator
from masslib.train.workers import gone_workers_named


def evaluate_compiled(
    model: keras.Model,
    x: Subset | tf.data.Dataset | keras.utils.PyDataset | Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    batch_size: int = 32,
    steps: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.Callback | None = None,
) -> dict[str, Any]:
    """Compute the loss and the metrics that a model was compiled with: `model.evaluate(..., return_dict=True)`.

    It gives the same numbers under every strategy, on any number of replicas and workers, up to rounding. Several
    workers call it alike, each in its own process, and all get the same dict. `masslib.evaluate` judges any kind of
    model, compiled or not, exported or not, by what its task asks for.

    Args:
        model: A compiled Keras 3 model.
        x: Inputs, as for `masslib.fit`: a `Subset`, arrays, or batches. A generator needs `steps`.
        y: Labels `(n, ...)` when `x` is arrays, or a dict, list or tuple of them.
        sample_weight: Weights of the rows when `x` is arrays.
        batch_size: Rows per step.
        steps: Batches to evaluate on, the first ones; all by default.
        callbacks: A Keras callback, or a list of them.

    Returns:
        The name and value of the loss and of every metric.

    Raises:
        TypeError: If `model` is not a Keras 3 model, or the data is of another type.
        ValueError: If the model is not compiled, a number is out of range, or the data has no end and no `steps`.

    Example:
        >>> import masslib, numpy as np
        >>> model = masslib.models.mlp((4,), 3)
        >>> model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> sorted(masslib.evaluate_compiled(model, np.zeros((6, 4)), np.arange(6) % 3))
        ['accuracy', 'loss']
    """
    check_keras_3(model)
    if not model.compiled:
        raise ValueError(f"model {model.name!r} is not compiled; call model.compile(loss=...)")
    for name, value in (("batch_size", batch_size), ("steps", steps)):
        if value is not None:
            check_count(name, value)
    replicas = Replicas(model.distribute_strategy)
    data = given(x, y, sample_weight, batch_size=batch_size)
    held = held_out(data, batch_size=batch_size, steps=steps, workers=replicas.workers)
    callbacks = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else list(callbacks or [])
    watchers = keras.callbacks.CallbackList(callbacks, model=model)
    if parameter_server.serves(model):
        return held.evaluated(parameter_server.ServedEvaluator(model, parameter_server.Crew(model)), watchers)
    with gone_workers_named(replicas):
        evaluator = Evaluator(model, replicas)
        if replicas.count > 1:  # a graph of several replicas cannot make the variables of metrics
            evaluator.build(next(iter(held.batches)))
        return held.evaluated(evaluator, watchers)
