"""Copies of single layers, also of those whose class does not say how to make them again."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras

_OF_WEIGHTS = {"regularizer": keras.regularizers.serialize, "constraint": keras.constraints.serialize}


def copied_layer(layer: Any, changed: Callable[[Any], Any] = lambda config: config) -> Any:
    """Copy a layer or an operation of Keras 3, with its name and without weights.

    Layers of users often lack what `from_config` needs, such as `**kwargs` in `__init__`. They are made from those of
    their settings that `__init__` takes; where that fails, a layer without variables stands for itself.

    Args:
        layer: The layer or operation; it is not changed.
        changed: Called with the settings, returns those of the copy.

    Returns:
        A new layer, not built yet, or the same one.

    Raises:
        ValueError: If it has variables and cannot be made again.
    """
    try:
        copy = type(layer).from_config(changed(settings(layer)))
    except Exception as error:  # whatever the class of a user raises
        copy = _remade(layer, changed, error)
    return copy if copy is layer else _alike(copy, layer)


def settings(layer: Any) -> dict[str, Any]:
    """Return the config of a layer or operation with the regularizers and constraints that its weights have.

    Training asks the weights. What is assigned to `layer.kernel_regularizer` after the layer was built is in its config
    only, and what is assigned to `layer.kernel.regularizer` is not in it.
    """
    config = layer.get_config()
    if is_own(layer):
        return config
    for weight in getattr(layer, "weights", ()):
        names = weight.name, weight.name.removesuffix("_kernel"), "depthwise"
        for kind, serialize in _OF_WEIGHTS.items():
            key = next((f"{name}_{kind}" for name in names if f"{name}_{kind}" in config), None)
            if key:
                config[key] = serialize(getattr(weight, kind))
    return config


def is_own(layer: Any) -> bool:
    """Tell whether the class of a layer or operation is one of the user's, and not one of Keras."""
    return not type(layer).__module__.startswith("keras.")


def _remade(layer: Any, changed: Callable[[Any], Any], reason: Exception) -> Any:
    parameters = inspect.signature(type(layer).__init__).parameters
    try:
        config = changed(settings(layer))
        return type(layer)(**{key: value for key, value in config.items() if key in parameters})
    except Exception as error:
        if not getattr(layer, "variables", ()):
            return layer
        said = " ".join(str(error).split()).split(". ")[0][:200] or type(error).__name__
        advice = (
            f"give its class {type(layer).__name__} a get_config() that returns all arguments of __init__"
            if is_own(layer)
            else "decorate what it takes of your own with @keras.saving.register_keras_serializable()"
        )
        raise ValueError(f"layer {layer.name!r} cannot be copied ({said.rstrip('.')}); {advice}") from reason


def _alike(copy: Any, layer: Any) -> Any:
    """Set what an `__init__` without `**kwargs` does not take, and what was set after it."""
    copy.name = layer.name
    if not isinstance(layer, keras.layers.Layer):
        return copy
    if copy.trainable != layer.trainable:
        copy.trainable = layer.trainable
    if copy.supports_masking != layer.supports_masking:
        copy.supports_masking = layer.supports_masking
    return copy
