"""How a Keras 3 model was compiled."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras


def compile_config(model: keras.Model, learning_rate: float | None = None) -> dict[str, Any]:
    """Return how a Keras 3 model was compiled, perhaps with another learning rate, in serialized form."""
    config = model.get_compile_config() if model.compiled else None
    if not config:
        raise ValueError(f"model {model.name!r} is not compiled, so its loss is unknown; call model.compile(...) first")
    if learning_rate is not None:
        optimizer = config["optimizer"]
        if optimizer["class_name"] == "LossScaleOptimizer":
            optimizer = optimizer["config"]["inner_optimizer"]
        optimizer["config"]["learning_rate"] = learning_rate
    return config


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
