"""The inputs and outputs of a model by name, in the structure in which it takes and gives them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

import keras

NAME = re.compile(r"(?!self$)[A-Za-z0-9][A-Za-z0-9_.-]*")
"""TensorFlow passes inputs by these names as arguments of Python functions; the converters know fewer than it does."""


def inputs(model: Any) -> Any:
    """The input tensors of a model of either Keras, one or a structure; a Sequential of Keras 3 has only a list."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else plain(model.input)


def outputs(model: Any) -> Any:
    """The output tensors of a model of either Keras, one or a structure."""
    return model.outputs[0] if isinstance(model, keras.Sequential) else plain(model.output)


def input_names(model: Any) -> Any:
    """The names of the inputs, in their structure.

    An input is called by its key where it stands in a dict, else by its own name; `input_0` if the name does not suit a
    file. Of two alike, the second gets a number.

    Example:
        >>> image, text = keras.Input((8,), name="image"), keras.Input((4,), name="text")
        >>> input_names(keras.Model([image, text], keras.layers.Concatenate()([image, text])))
        ['image', 'text']
    """
    structure = inputs(model)
    return named(structure, [tensor.name for tensor in keras.tree.flatten(structure)], "input")


def output_names(model: Any) -> Any:
    """The names of the outputs, in their structure.

    An output is called by its key where it stands in a dict, else by the layer that it comes from; one alone is
    `output_0`, as in Keras. Of two alike, the second gets a number.

    Example:
        >>> x = keras.Input((8,))
        >>> heads = {"age": keras.layers.Dense(1)(x), "kind": keras.layers.Dense(3)(x)}
        >>> output_names(keras.Model(x, heads)), output_names(keras.Model(x, heads["age"]))
        ({'age': 'age', 'kind': 'kind'}, 'output_0')
    """
    structure = outputs(model)
    names = ["output_0"] if len(model.outputs) == 1 else [_unwrapped(model, name) for name in model.output_names]
    return named(structure, names, "output")


def plain(structure: Any) -> Any:
    """Dicts, lists and tuples instead of the classes that Keras and TensorFlow track them by."""
    if isinstance(structure, Mapping):
        return {key: plain(part) for key, part in structure.items()}
    if isinstance(structure, list | tuple):
        parts = [plain(part) for part in structure]
        return tuple(parts) if isinstance(structure, tuple) else parts
    return structure


def named(structure: Any, names: list[str], fallback: str) -> Any:
    """Names in a structure: keys where there are any, else the names that are passed in the order of `keras.tree`."""
    found: list[str] = []
    for number, (path, _) in enumerate(keras.tree.flatten_with_path(structure)):
        name = path[-1] if path and isinstance(path[-1], str) else names[number]
        name = name if NAME.fullmatch(name) else f"{fallback}_{number}"
        numbers = (f"{name}_{count}" for count in itertools.count(1))
        found.append(name if name not in found else next(other for other in numbers if other not in found))
    return keras.tree.pack_sequence_as(structure, found)


def _unwrapped(model: Any, name: str) -> str:
    """The name of an output without what TFMOT puts before it for quantization-aware training."""
    if isinstance(model, keras.Model) or not type(model.get_layer(name)).__name__.startswith("QuantizeWrapper"):
        return name
    return name.removeprefix("quant_")
