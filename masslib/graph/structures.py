"""Arrays and tensors in the order in which a model numbers its inputs and outputs."""

from __future__ import annotations

from typing import Any

import keras


def inputs_in_order(model: keras.Model, x: Any) -> list[Any]:
    """Return inputs, an array or a dict, list or tuple of them, in the order of `model.inputs`.

    Raises:
        ValueError: If there are not as many, or one is not named.

    Example:
        >>> one, other = keras.Input((1,), name="one"), keras.Input((1,), name="other")
        >>> inputs_in_order(keras.Model([one, other], one + other), {"other": 2, "one": 1})
        [1, 2]
    """
    names = [tensor.name for tensor in model.inputs]
    structure = None if isinstance(model, keras.Sequential) else model.input
    return _in_order(f"inputs for model {model.name!r}", x, structure, names)


def outputs_in_order(model: keras.Model, values: Any) -> list[Any]:
    """Return labels, or other things that there are one of for each output, in the order of `model.outputs`.

    Raises:
        ValueError: As `inputs_in_order`.
    """
    structure = None if isinstance(model, keras.Sequential) else model.output
    return _in_order(f"outputs of model {model.name!r}", values, structure, output_names(model))


def output_names(model: keras.Model) -> list[str]:
    """Return the names of the outputs: the keys where they are a dict, else those of their layers."""
    if isinstance(model, keras.Sequential):
        return [model.layers[-1].name]
    if isinstance(model.output, dict) and len(model.output) == len(model.outputs):
        # In the order in which Keras flattens a dict.
        return sorted(model.output)
    return list(model.output_names)


def _in_order(kind: str, values: Any, structure: Any, names: list[str]) -> list[Any]:
    if isinstance(values, dict) and not any(map(keras.tree.is_nested, values.values())):
        keys = sorted(structure) if isinstance(structure, dict) and len(structure) == len(names) else names
        for wanted in (keys, names):
            if set(wanted) <= values.keys():
                return [values[name] for name in wanted]
        raise ValueError(f"{kind}: got {', '.join(map(str, values))}; expected {', '.join(map(str, names))}")
    found = keras.tree.flatten(values)
    if len(found) != len(names):
        raise ValueError(f"{kind}: got {len(found)}; expected {len(names)} ({', '.join(map(str, names))})")
    return found
