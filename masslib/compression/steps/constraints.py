"""Constraints of the weights while a step fine-tunes."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import tf_keras

from masslib.compression.step import Training
from masslib.compression.tfmot import support
from masslib.graph.weights import copy_weights

# What the layers of Keras call the constraint of each kind of kernel.
_SETTINGS = {
    "kernel": "kernel_constraint",
    "pointwise_kernel": "pointwise_constraint",
    "depthwise_kernel": "depthwise_constraint",
    "embeddings": "embeddings_constraint",
}


@dataclass(frozen=True, kw_only=True, repr=False)
class Constrained(Training):
    """The settings of every step that fine-tunes with TFMOT.

    Args:
        constraint: What the kernels that the step treats are projected on after every batch: a name such as
            `"max_norm"`, or an object of `keras.constraints`. Those that the model has are kept where it is absent.
    """

    constraint: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.constraint is not None:
            # Steps are frozen values, compared and stored: keep the settings, not the object.
            object.__setattr__(self, "constraint", _serialized(self))


def constrained(twin: tf_keras.Model, constraint: str | dict | None, names: Collection[str]) -> tf_keras.Model:
    """Copy a tf_keras model and give the kernels of the named layers a constraint; without one, return the model."""
    if constraint is None:
        return twin

    def rebuilt(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        config = layer.get_config()
        if layer.name in names:
            config[_SETTINGS[support.kernel_name(layer)]] = tf_keras.constraints.get(constraint)
        return type(layer).from_config(config)

    copy = tf_keras.models.clone_model(twin, clone_function=rebuilt)
    copy_weights(twin, copy)
    return copy


def _serialized(step: Constrained) -> str | dict[str, Any]:
    value = step.constraint
    if hasattr(value, "get_config") and callable(value):
        # Through JSON, so that what was stored and read again is equal.
        value = {"class_name": type(value).__name__, "config": json.loads(json.dumps(value.get_config()))}
    try:
        found = isinstance(value, str | dict) and tf_keras.constraints.get(value)
    except (ValueError, TypeError, KeyError):
        found = None
    if not found:
        raise ValueError(
            f"{type(step).__name__}(constraint={step.constraint!r}): expected a name such as 'max_norm', an object "
            "of keras.constraints such as keras.constraints.MaxNorm(3), or None"
        )
    return value
