"""Activations that are layers: `Dense(8, activation=PReLU())`."""

from __future__ import annotations

from typing import Any

import keras

from masslib.graph.layers import copied_layer, settings
from masslib.graph.nodes import named_layers
from masslib.graph.rebuilding import rebuilt

# Layers whose last act is their activation
_ENDING = {
    *("Activation", "Dense", "EinsumDense", "SeparableConv1D", "SeparableConv2D"),
    *(f"Conv{n}D{transpose}" for n in (1, 2, 3) for transpose in ("", "Transpose")),
    *("DepthwiseConv1D", "DepthwiseConv2D"),
}


def separated(model: keras.Model) -> keras.Model:
    """Return a model as it is, or an uncompiled copy in which activations that are layers follow their layers.

    Such an activation may have weights, which belong to no place of the graph then: neither channels nor the layers of
    tf_keras could be told apart. In the copy it is named after its layer, such as `dense_activation`.
    """
    if not any(map(_is_separable, named_layers(model).values())):
        return model
    return rebuilt(model, lambda layer, _: _chain(layer) if _is_separable(layer) else None)


def _is_separable(layer: Any) -> bool:
    known = type(layer).__module__.startswith("keras.") and type(layer).__name__ in _ENDING
    return known and isinstance(layer.activation, keras.layers.Layer)


def _chain(layer: keras.layers.Layer) -> list[tuple[keras.layers.Layer, Any]]:
    activation = layer.activation
    follower = copied_layer(activation)
    follower.name = f"{layer.name}_activation"
    # What is left of an unused activation, which makes its weights at the first call, is a fresh one.
    weights = activation if activation.built else None
    own = {id(variable) for variable in activation.variables}
    if type(layer).__name__ == "Activation":
        return [(follower, weights)]
    config = settings(layer) | {"activation": "linear", "activity_regularizer": None}
    follower.activity_regularizer = layer.activity_regularizer or follower.activity_regularizer
    linear = type(layer).from_config(config)
    return [(linear, [weight.numpy() for weight in layer.weights if id(weight) not in own]), (follower, weights)]
