"""Weights copied between models that have the same layers, of the same Keras or of the two."""

from __future__ import annotations

from typing import Any

import numpy as np

from masslib.graph.nodes import named_layers, named_models, parts


def copy_weights(source: Any, target: Any) -> None:
    """Copy the weights layer by layer; the layers of the two models are matched by name.

    Raises:
        ValueError: If a layer is missing or has other shapes.
    """
    sources = {name: layer for name, layer in named_layers(source).items() if layer.weights}
    targets = {name: layer for name, layer in named_layers(target).items() if layer.weights}
    if sources.keys() != targets.keys():
        different = sorted(sources.keys() ^ targets.keys())
        raise ValueError(f"the two models do not have the same layers with weights: {', '.join(different)}")
    for name, layer in sources.items():
        shapes = [tuple(np.shape(weight)) for weight in layer.get_weights()]
        expected = [tuple(np.shape(weight)) for weight in targets[name].get_weights()]
        if shapes != expected:
            raise ValueError(f"layer {name!r} has weights of shapes {shapes}, expected {expected}")
        set_weights(targets[name], layer.get_weights())


def set_weights(layer: Any, weights: list[np.ndarray]) -> None:
    """Set the weights of a layer of either Keras, and what it derives from them."""
    layer.set_weights(weights)
    if hasattr(layer, "finalize_state"):  # Normalization
        layer.finalize_state()


def copy_variables(source: Any, target: Any) -> None:
    """Copy all variables of a Keras 3 layer into a copy of it: its weights and the state of its random generators.

    Their regularizers and constraints are copied too, as they may be set on a variable and be in no config.
    """
    for old, new in zip(source.variables, target.variables, strict=True):
        new.assign(old)
        new.regularizer, new.constraint = old.regularizer, old.constraint
    copy_names(source, target)
    if hasattr(target, "finalize_state"):
        target.finalize_state()


def copy_names(source: Any, target: Any) -> None:
    """Give the layers inside of a copy of a layer the names that they have in the layer; Keras counts them anew."""
    pairs = list(zip(parts(source), parts(target), strict=False))
    if [type(old) for old, _ in pairs] != [type(new) for _, new in pairs]:
        return
    for old, new in pairs:
        if new.name != old.name:
            new.name = old.name
        copy_names(old, new)


def copy_trainable(source: Any, target: Any) -> None:
    """Freeze in a copy of a Keras 3 model what is frozen in the model, down to single variables."""
    for named in (lambda it: {"": it}, named_models, named_layers):  # a model passes its setting on to its layers
        found = named(target)
        for name, part in named(source).items():
            if name in found and found[name].trainable != part.trainable:
                found[name].trainable = part.trainable
    found = named_layers(target)
    for name, layer in named_layers(source).items():
        if name in found and len(found[name].variables) == len(layer.variables):
            for old, new in zip(layer.variables, found[name].variables, strict=True):
                if new.trainable != old.trainable:
                    new.trainable = old.trainable
