"""Copies of single layers, also of those whose class does not say how to make them again."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras

from masslib._util.messages import first_paragraph
from masslib.graph.by_value import ByValue, by_value
from masslib.graph.nodes import is_nested

_OF_WEIGHTS = {"regularizer": keras.regularizers.serialize, "constraint": keras.constraints.serialize}


def copied_layer(layer: Any, changed: Callable[[Any], Any] = lambda config: config) -> Any:
    """Copy a layer or an operation of Keras 3, with its name and without weights.

    Layers of users often lack what `from_config` needs, such as `**kwargs` in `__init__`. They are made from those of
    their settings that `__init__` takes; where that fails, or the settings lack an argument, the copy is one by value.

    Args:
        layer: The layer or operation; it is not changed.
        changed: Called with the settings, returns those of the copy.

    Returns:
        A new layer; a copy by value is built and has the weights of the layer. An operation may be the same one.

    Raises:
        ValueError: If its settings are to be changed and it cannot be made again.
    """
    try:
        config = settings(layer)
        if missing_arguments(layer, config):
            raise TypeError(f"its get_config() lacks {', '.join(missing_arguments(layer, config))}")
        copy = type(layer).from_config(changed(config))
    except Exception as error:  # whatever the class of a user raises
        copy = _remade(layer, changed, error)
    return _alike(copy, layer)


def copied_alone(layer: Any) -> Any:
    """Copy a layer; a model inside of a model is returned as it is, to be copied layer by layer when its turn comes."""
    return layer if is_nested(layer) else copied_layer(layer)


def missing_arguments(layer: Any, config: dict[str, Any]) -> list[str]:
    """Name the arguments of `__init__` of the user's class that its settings do not tell, be there a default or not."""
    if not is_own(layer) or not type(layer).from_config.__module__.startswith("keras."):
        return []
    parameters = list(inspect.signature(type(layer).__init__).parameters.items())[1:]
    known = {*config, "name", "trainable", "dtype"}
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [name for name, parameter in parameters if name not in known and parameter.kind not in several]


def why_not_written(layer: Any) -> str:
    """Tell why Keras cannot write a layer and make it again from what it wrote, or return ""."""
    layer = layer.origin() if isinstance(layer, ByValue) else layer
    try:
        missing = missing_arguments(layer, layer.get_config())
        if missing:
            return f"its get_config() lacks {', '.join(missing)}"
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    except NotImplementedError:
        return "it has no get_config()"
    except Exception as error:  # whatever the class of a user raises
        parts = str(error).split("Exception encountered: ")  # behind a line with all settings
        return first_paragraph(parts[-1] if len(parts) > 1 else error).rstrip(".")
    return ""


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
        config = settings(layer)
        if missing_arguments(layer, config):
            raise reason
        return type(layer)(**{key: value for key, value in changed(config).items() if key in parameters})
    except Exception as error:
        if not isinstance(layer, keras.layers.Layer):
            return layer
        policy = {"dtype": layer.dtype_policy.name}
        # Not a layer of Keras with weights: no step could look inside of the copy.
        if changed(policy) == policy and (is_own(layer) or not layer.variables):
            return by_value(layer)
        advice = (
            f"give its class {type(layer).__name__} a get_config() that returns all arguments of __init__"
            if is_own(layer)
            else "decorate what it takes of your own with @keras.saving.register_keras_serializable()"
        )
        said = first_paragraph(error).split(". ")[0][:200].rstrip(".")
        raise ValueError(f"layer {layer.name!r} cannot be copied ({said}); {advice}") from reason


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
