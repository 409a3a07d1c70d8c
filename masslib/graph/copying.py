"""Copies of models."""

from __future__ import annotations

import keras

from masslib.graph.compiled import own_losses
from masslib.graph.nodes import named_layers
from masslib.graph.precision import unmixed
from masslib.graph.weights import copy_variables


def copied(model: keras.Model) -> keras.Model:
    """Copy a model with its weights and the states of its random layers, from mixed precision into float32."""
    with own_losses(model):
        copy = unmixed(model)
        if copy is model:
            copy = keras.models.clone_model(model, recursive=True)
        elif model.compiled:
            copy.compile_from_config(model.get_compile_config())
    found = named_layers(copy)
    for name, layer in named_layers(model).items():
        if layer.variables:  # the names of inputs may differ
            copy_variables(layer, found[name])
    return copy
