"""What a model consists of: its layers, and the operations between them that are not layers."""

from __future__ import annotations

from typing import Any

import keras


def is_nested(layer: Any) -> bool:
    """Tell whether a layer is itself a model whose graph can be read, of Keras 3 or tf_keras.

    A class with a `call` of its own may do anything with its layers, so it counts as a layer.
    """
    built = hasattr(layer, "layers") and bool(getattr(layer, "inputs", None))
    return built and type(layer).call.__module__.startswith(("keras.", "tf_keras."))


def parts(layer: Any) -> list[keras.layers.Layer]:
    """Return the layers that a layer of Keras 3 is made of, each once, in the order in which they were made."""
    held = keras.tree.flatten(list(vars(layer).values()))
    return list({id(part): part for part in held if isinstance(part, keras.layers.Layer)}.values())


def nodes(model: keras.Model) -> list[Any]:
    """Return the layers of a Keras 3 model and the operations between them that are not layers."""
    return getattr(model, "operations", None) or model.layers


def named_nodes(model: keras.Model) -> dict[str, Any]:
    """Return layers and operations by name, those of nested models as `outer/inner`."""
    return _by_name(model, nodes, "")


def named_layers(model: Any) -> dict[str, Any]:
    """Return the layers of a model of either Keras by name, those of nested models as `outer/inner`."""
    return _by_name(model, lambda it: it.layers, "")


def named_models(model: Any) -> dict[str, Any]:
    """Return the nested models by name, the outer ones before those inside of them."""
    found: dict[str, Any] = {}
    for layer in filter(is_nested, model.layers):
        found[layer.name] = layer
        found |= {f"{layer.name}/{name}": inner for name, inner in named_models(layer).items()}
    return found


def _by_name(model: Any, parts: Any, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in parts(model):
        name = prefix + part.name
        found |= _by_name(part, parts, f"{name}/") if is_nested(part) else {name: part}
    return found


def functional(model: keras.Model) -> keras.Model:
    """View a model as an uncompiled functional one, with the same layers.

    Keras would compile a copy of a compiled model, which fails for losses and metrics that are not registered.
    """
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    # A class of the user's own that adds no more than methods, such as a train_step, is kept.
    kind = type(model) if type(model).__init__.__module__.startswith("keras.") else keras.Model
    return kind(model.input, model.output, name=model.name)
