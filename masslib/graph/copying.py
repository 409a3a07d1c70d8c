"""Copies of models."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from masslib.graph.activations import separated
from masslib.graph.compiled import check_compiled, compile_config, own_losses
from masslib.graph.layers import copied_layer, is_own
from masslib.graph.nodes import named_layers
from masslib.graph.precision import unmixed
from masslib.graph.probes import probe_inputs
from masslib.graph.weights import copy_trainable, copy_variables

# Largest difference of the answers of a copy, relative to the largest of them
_TOLERANCE, _TOLERANCE_OF_HALVES = 1e-4, 0.1


def copied(model: keras.Model, *, float32: bool = True) -> keras.Model:
    """Copy a model with all that steps need to know: weights, random states, frozen layers, how it was compiled.

    Activations that are layers follow their layers. A copy with layers of the user's own is compared with the model on
    random inputs, because their settings may be incomplete.

    Args:
        model: A built Sequential or functional model; it is not changed.
        float32: Whether what computes in mixed precision becomes float32.

    Raises:
        ValueError: If a layer, or what the model was compiled with, cannot be copied, or the copy has other answers.
    """
    if model.compiled:
        check_compiled(model)
    single = unmixed(model) if float32 else model
    copy = separated(single)
    if copy is model:
        with own_losses(model):  # which Keras looks up, for it compiles the copy
            copy = keras.models.clone_model(model, recursive=True, clone_function=copied_layer)
        found = named_layers(copy)
        for name, layer in named_layers(model).items():
            if layer.variables and found[name] is not layer:  # the names of inputs may differ
                _copy_variables(name, layer, found[name])
        copy_trainable(model, copy)
    _check_own_layers(model, copy, _TOLERANCE if single is model else _TOLERANCE_OF_HALVES)
    if model.compiled:
        with own_losses(model):
            copy.compile_from_config(compile_config(model))
    return copy


def _copy_variables(name: str, layer: Any, copy: Any) -> None:
    shapes = [[tuple(variable.shape) for variable in one.variables] for one in (layer, copy)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"layer {name!r} has variables of shapes {shapes[0]}, its copy {shapes[1]}; let {type(layer).__name__} "
            "return all arguments of __init__ in its get_config(), and make all variables in build()"
        )
    copy_variables(layer, copy)


def _check_own_layers(model: keras.Model, copy: keras.Model, tolerance: float) -> None:
    own = {f"{name!r} ({type(layer).__name__})": layer for name, layer in named_layers(model).items() if is_own(layer)}
    if not own:
        return
    try:
        inputs = probe_inputs(model, 2)
    except ValueError:  # it can be asked nothing
        return
    # Sampling layers go on with their random numbers, which must not change the model.
    states = {id(variable): (variable, variable.numpy()) for one in (model, copy) for variable in _states(one)}
    answers = [_answers(one, inputs) for one in (model, model, copy)]
    for variable, value in states.values():
        variable.assign(value)
    if not all(_close(*pair, tolerance) for pair in zip(*answers[:2], strict=True)):  # at random
        return
    if not all(_close(*pair, tolerance) for pair in zip(*answers[::2], strict=True)):
        raise ValueError(
            f"a copy of {model.name!r} has other answers; let the get_config() of {', '.join(own)} return all "
            "arguments of __init__"
        )


def _states(model: keras.Model) -> list[Any]:
    weights = {id(weight) for weight in model.trainable_weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def _answers(model: keras.Model, inputs: Any) -> list[np.ndarray]:
    return [np.asarray(answer, "float64") for answer in keras.tree.flatten(model(inputs, training=False))]


def _close(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> bool:
    return bool(np.abs(ours - theirs).max() <= tolerance * max(np.abs(ours).max(), 1e-30))
