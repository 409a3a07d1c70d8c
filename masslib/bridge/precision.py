"""Models that train in mixed precision, as models that compute in the precision their weights are kept in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from masslib.bridge.equality import copy_weights
from masslib.bridge.replay import functional, named_nodes

if TYPE_CHECKING:
    import keras


def unmixed(model: keras.Model) -> keras.Model:
    """Return a model as it is, or an uncompiled copy in float32 of one that computes in mixed precision.

    TFMOT and the converter to TFLite know float32 only, which is also what the weights are kept in.
    """
    import keras

    if not any(_is_mixed(layer) for layer in named_nodes(model).values()):
        return model
    copy = keras.models.clone_model(functional(model), clone_function=unmixed_layer, recursive=True)
    copy_weights(model, copy)
    return copy


def unmixed_layer(layer: Any) -> Any:
    """Make a layer with the settings of another, and fresh weights, that computes in the type of its weights."""
    return type(layer).from_config(_unmixed(layer.get_config()))


def _is_mixed(layer: Any) -> bool:
    return getattr(layer, "compute_dtype", None) != getattr(layer, "variable_dtype", None)


def _unmixed(config: Any) -> Any:
    """Replace mixed policies, those of layers inside of a layer as well."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy" and config["config"]["name"].startswith("mixed_"):
            return "float32"
        return {key: _unmixed(value) for key, value in config.items()}
    return [_unmixed(value) for value in config] if isinstance(config, list) else config
