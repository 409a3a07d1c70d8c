"""Optimizer, loss and metrics of a compiled model, carried over to its twin."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial, wraps
from typing import Any

import keras
import tf_keras

from masslib.bridge.translate import twin_object, unknown_settings
from masslib.graph.compiled import compile_config, is_loss, losses_of_its_own, per_output

# Names that only `compile` understands, by the shape of the outputs
_CHOSEN_BY_SHAPE = ("accuracy", "acc", "crossentropy", "ce")


def compile_like(
    twin: tf_keras.Model,
    model: keras.Model,
    *,
    learning_rate: float | None = None,
    label_ndim: int | Sequence[int | None] | None = None,
) -> None:
    """Compile a tf_keras model the way its Keras 3 original was compiled.

    Optimizer, loss, loss weights and metrics cross with their settings. The state of the optimizer does not, nor does
    `use_ema`: tf_keras starts the averages from other values, and they would replace weights that were pruned.

    Trained on the same batches, both have the same weights up to rounding, with one exception: the batch normalization
    of images in tf_keras keeps the unbiased variance of a batch of `n` pixels, `n / (n - 1)` times that of Keras 3.

    Args:
        twin: The tf_keras model to compile, in place.
        model: The compiled Keras 3 model.
        learning_rate: Replaces the optimizer's learning rate or schedule if given.
        label_ndim: Axes of a batch of labels. tf_keras passes labels `(rows,)` as `(rows, 1)`; with 1, losses and
            metrics that are functions, and losses of your own, get them as from Keras 3. Of several outputs a list, in
            the order of `model.outputs`.

    Raises:
        ValueError: If `model` was not compiled, has a training step of its own, or some of the objects have no
            tf_keras counterpart (all are listed).

    Example:
        >>> import masslib
        >>> model = masslib.models.mlp((4,), 3)
        >>> model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
        >>> twin = masslib.bridge.to_tf_keras(model)
        >>> masslib.bridge.compile_like(twin, model, learning_rate=0.1)
        >>> type(twin.optimizer).__name__
        'SGD'
    """
    _check_training(model)
    config = compile_config(model)
    problems: list[str] = []
    ndims = label_ndim if isinstance(label_ndim, list | tuple) else [label_ndim] * len(twin.outputs)

    def translated(name: str, translate: Callable[[Any, int | None], Any]) -> Any:
        values = per_output(config[name], model)
        found = [_each(it, partial(translate, label_ndim=n), problems) for it, n in zip(values, ndims, strict=True)]
        if len(found) > 1 and "metrics" in name:  # a flat list would be for all of them
            found = [it if isinstance(it, list) else [] if it is None else [it] for it in found]
        return like_outputs(twin, found)

    settings = {
        "optimizer": _each(config["optimizer"], lambda value: _optimizer(value, learning_rate), problems),
        "loss": translated("loss", _losses(model)),
        "metrics": translated("metrics", _metric),
        "weighted_metrics": translated("weighted_metrics", _metric),
    }
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise ValueError(
            f"{len(problems)} thing(s) that {model.name!r} was compiled with have no tf_keras counterpart:{listed}"
            "\nCompile it with others before it is compressed; that does not change its weights."
        )
    if config["loss_weights"] is not None:
        settings["loss_weights"] = like_outputs(twin, per_output(config["loss_weights"], model))
    twin.compile(**settings)


def like_outputs(twin: tf_keras.Model, values: list[Any]) -> Any:
    """Put values, one for each output of a tf_keras model, into the structure of its outputs, as its `fit` wants them.

    It is asked of the model because models that TFMOT has transformed have lists in the place of dicts.

    Args:
        twin: A functional tf_keras model.
        values: One for each of its outputs, in their order: labels, losses or weights.

    Returns:
        The structure of `twin.output`; of one output its value alone.

    Example:
        >>> import tf_keras
        >>> inputs = tf_keras.Input((2,))
        >>> twin = tf_keras.Model(inputs, {"kind": tf_keras.layers.Dense(3)(inputs), "price": inputs})
        >>> like_outputs(twin, ["mse", "mae"])
        {'kind': 'mse', 'price': 'mae'}
    """
    return keras.tree.pack_sequence_as(twin.output, values) if len(values) > 1 else values[0]


def _check_training(model: keras.Model) -> None:
    own = [name for name in ("train_step", "compute_loss") if getattr(type(model), name) != getattr(keras.Model, name)]
    if own:
        raise ValueError(
            f"model {model.name!r} has its own {' and '.join(own)}, which tf_keras cannot run; use "
            "keras.Model(model.input, model.output), compiled with a loss that does the same"
        )


def _each(value: Any, translate: Callable[[Any], Any], problems: list[str]) -> Any:
    """Translate every object in lists and dicts of them, and note what has no counterpart."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [_each(item, translate, problems) for item in value]
    if isinstance(value, dict) and "class_name" not in value:
        return {key: _each(item, translate, problems) for key, item in value.items()}
    try:
        return translate(value)
    except ValueError as error:
        problems.append(str(error).splitlines()[0])
        return None


def _optimizer(value: dict[str, Any], learning_rate: float | None) -> Any:
    name, config = value["class_name"], dict(value["config"])
    if name == "LossScaleOptimizer":
        inner = _optimizer(config["inner_optimizer"], learning_rate)
        scale, steps = config["initial_scale"], config["dynamic_growth_steps"]
        return tf_keras.mixed_precision.LossScaleOptimizer(inner, initial_scale=scale, dynamic_growth_steps=steps)
    if learning_rate is not None:
        config["learning_rate"] = learning_rate
    config["use_ema"] = False
    twin = twin_object(value | {"config": config})
    unknown = unknown_settings(getattr(keras.optimizers, name), type(twin), config)
    if unknown:
        listed = ", ".join(f"{key}={config[key]!r}" for key in sorted(unknown))
        raise ValueError(f"tf_keras has no {name}({listed})")
    return twin


def _losses(model: keras.Model) -> Callable[[Any, int | None], Any]:
    own = losses_of_its_own(model)

    def translate(value: Any, label_ndim: int | None) -> Any:
        name = _function_name(value)
        loss = own.get(name or value["class_name"])
        if is_loss(loss):
            return _as_function(loss, label_ndim)
        return _like_keras3(loss or (_by_name(name, "losses") if name else twin_object(value)), label_ndim)

    return translate


def _as_function(loss: keras.losses.Loss, label_ndim: int | None) -> Callable[[Any, Any], Any]:
    """Return what a loss of the user's own computes for each row; tf_keras takes the mean of it."""
    if loss.reduction != "sum_over_batch_size":
        raise ValueError(f"{type(loss).__name__} with reduction={loss.reduction!r}, and not 'sum_over_batch_size'")

    def call(labels: Any, answers: Any) -> Any:
        labels = keras.ops.reshape(labels, (-1,)) if label_ndim == 1 else labels
        return loss.call(keras.ops.cast(labels, loss.dtype), answers)

    return call


def _like_keras3(value: Any, label_ndim: int | None) -> Any:
    """Give a function its labels as Keras 3 does: as floats, and flat labels only expanded for one answer per row."""
    if not inspect.isfunction(value):
        return value

    @wraps(value)
    def call(labels: Any, answers: Any) -> Any:
        if label_ndim == 1 and answers.shape[-1] != 1:
            labels = keras.ops.reshape(labels, (-1,))
        return value(keras.ops.cast(labels, keras.config.floatx()), answers)

    return call


def _metric(value: Any, label_ndim: int | None) -> Any:
    name = _function_name(value)
    if name:
        found = name if name in _CHOSEN_BY_SHAPE else _by_name(name, "metrics")
        return _like_keras3(found, label_ndim)
    # Keras 3 counts intersections in integers; tf_keras would cut the outputs to integers as well.
    config = {key: setting for key, setting in value["config"].items() if (key, str(setting)[:3]) != ("dtype", "int")}
    return _like_keras3(twin_object(value | {"config": config}), label_ndim)


def _function_name(value: Any) -> str | None:
    if isinstance(value, dict) and value["class_name"] == "function":
        return value["config"]
    return value if isinstance(value, str) else None


def _by_name(name: str, module: str) -> Any:
    """Return the name if tf_keras knows it, else the function, which tf_keras can call like one of its own."""
    # tf_keras returns the name itself, or raises, if it does not know it.
    with suppress(ValueError):
        if not isinstance(getattr(tf_keras, module).get(name), str):
            return name
    function = keras.saving.get_registered_object(name) or _of_keras(name, module)
    if function is None:
        raise ValueError(f"the function {name!r}; decorate it with @keras.saving.register_keras_serializable()")
    return function if inspect.isfunction(function) else twin_object(keras.saving.serialize_keras_object(function))


def _of_keras(name: str, module: str) -> Any:
    try:
        return getattr(keras, module).get(name)
    except ValueError:
        return getattr(keras.losses, name, None)
