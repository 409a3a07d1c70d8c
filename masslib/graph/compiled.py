"""How a Keras 3 model was compiled."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from masslib._util.messages import first_line
from masslib.graph.structures import output_names


def compile_config(model: keras.Model, learning_rate: float | None = None) -> dict[str, Any]:
    """Return how a Keras 3 model was compiled, perhaps with another learning rate, in serialized form.

    An optimizer or `run_eagerly` that was assigned since then counts.

    Raises:
        ValueError: If it is not compiled, or its optimizer leaves weights out of weight decay, which is not among the
            settings of an optimizer.
    """
    try:
        config = model.get_compile_config() if model.compiled else None
    except (TypeError, ValueError, NotImplementedError) as error:
        raise _uncopied(model, "optimizer, loss and metrics", error) from error
    if not config:
        raise ValueError(f"model {model.name!r} is not compiled, so its loss is unknown; call model.compile(...) first")
    config["optimizer"] = keras.saving.serialize_keras_object(_optimizer(model, config))
    config["run_eagerly"] = model.run_eagerly
    if learning_rate is not None:
        optimizer = config["optimizer"]
        if optimizer["class_name"] == "LossScaleOptimizer":
            optimizer = optimizer["config"]["inner_optimizer"]
        optimizer["config"]["learning_rate"] = learning_rate
    return config


def per_output(value: Any, model: keras.Model) -> list[Any]:
    """Return what each output of a model is compiled with, of a loss, metrics or loss weights in serialized form."""
    count = len(model.outputs)
    if isinstance(value, dict) and "class_name" not in value:
        found = [value.get(name) for name in output_names(model)]
        return found if any(it is not None for it in found) else [value.get(name) for name in model.output_names]
    if isinstance(value, list | tuple) and count > 1:
        return list(value)
    return [value] * count


def compile_alike(target: keras.Model, model: keras.Model, learning_rate: float | None = None) -> None:
    """Compile a model as another one with as many outputs, whatever names they have."""
    config = compile_config(model, learning_rate)
    if output_names(target) != output_names(model):
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if isinstance(config[name], dict) and "class_name" not in config[name]:
                config[name] = keras.tree.pack_sequence_as(target.output, per_output(config[name], model))
    with own_losses(model):
        target.compile_from_config(config)


def check_compiled(model: keras.Model) -> None:
    """Raise unless what a compiled model was compiled with can be copied."""
    config = compile_config(model)
    with own_losses(model):
        for name in ("optimizer", "loss", "metrics", "weighted_metrics"):
            try:
                keras.saving.deserialize_keras_object(config[name])
            except (TypeError, ValueError, NotImplementedError) as error:
                raise _uncopied(model, name, error) from error


def _uncopied(model: keras.Model, name: str, error: Exception) -> ValueError:
    reason = first_line(error)
    return ValueError(
        f"the {name} that model {model.name!r} was compiled with cannot be copied ({reason.rstrip('.')}); write a "
        "lambda as a function, and give a class a get_config() and @keras.saving.register_keras_serializable()"
    )


def _optimizer(model: keras.Model, config: dict[str, Any]) -> keras.optimizers.Optimizer:
    optimizer = model.optimizer
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if scaled and config["optimizer"]["class_name"] != "LossScaleOptimizer":  # compile has wrapped it by itself
        optimizer = optimizer.inner_optimizer
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    # Private, because Keras has no public way to ask: exclude_from_weight_decay only sets it.
    if getattr(inner, "weight_decay", None) and any(not inner._use_weight_decay(w) for w in model.trainable_weights):
        raise ValueError(
            f"the optimizer {inner.name!r} of {model.name!r} leaves weights out of its weight decay "
            "(exclude_from_weight_decay), which a copy of it cannot; compile the model with weight_decay=None, or with "
            "an optimizer that treats all weights alike"
        )
    return optimizer


@contextmanager
def own_losses(model: keras.Model) -> Iterator[None]:
    """Let Keras find the losses of the user's own by name, as it must to copy a compiled model."""
    own = losses_of_its_own(model)
    with keras.saving.custom_object_scope({k: v if inspect.isfunction(v) else type(v) for k, v in own.items()}):
        yield


def losses_of_its_own(model: keras.Model) -> dict[str, Any]:
    """Losses are written by name only, but the model still holds those that are functions or objects."""
    losses = keras.tree.flatten(model.loss)
    functions = {loss.__name__: loss for loss in losses if inspect.isfunction(loss)}
    functions = {name: function for name, function in functions.items() if not hasattr(keras.losses, name)}
    objects = [loss for loss in losses if is_loss(loss) and not type(loss).__module__.startswith("keras.")]
    return functions | {type(loss).__name__: loss for loss in objects}


def is_loss(value: Any) -> bool:
    return isinstance(value, keras.losses.Loss)
