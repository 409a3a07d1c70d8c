"""The graph of a Keras 3 model, read call by call."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import keras

from masslib.graph.checks import check_model
from masslib.graph.layers import copied_alone
from masslib.graph.nodes import functional, is_nested


@dataclass(frozen=True)
class Call:
    """One call of a layer, or of an operation that is no layer.

    Attributes:
        name: Of the layer, `outer/inner` in nested models; a shared layer has several calls.
        layer: A copy of the layer, with other weights.
        inputs: The tensors that go in.
        outputs: The tensors that come out.
        constants: What else was passed, such as the number in `x * 2`.
    """

    name: str
    layer: Any
    inputs: list[keras.KerasTensor]
    outputs: list[keras.KerasTensor]
    constants: list[Any]


def calls(model: keras.Model) -> tuple[list[keras.KerasTensor], list[Call], list[keras.KerasTensor]]:
    """Read the graph of a model: its inputs, all calls in the order in which they run, and its outputs."""
    check_model(model)
    reader = _Reader()
    copy = reader.run(model, "")
    found = [
        replace(call, inputs=reader.resolved(call.inputs), outputs=reader.resolved(call.outputs))
        for call in reader.calls
    ]
    return reader.resolved(copy.inputs), found, reader.resolved(copy.outputs)


class _Reader:
    def __init__(self) -> None:
        self.calls: list[Call] = []
        # What goes into a nested model is the tensor outside of it, what comes out the one inside.
        self._same: dict[int, keras.KerasTensor] = {}
        self._kept: list[Any] = []  # an id is only unique while its tensor is alive

    def resolved(self, tensors: list[keras.KerasTensor]) -> list[keras.KerasTensor]:
        """Follow tensors of nested models to where they come from."""
        found = []
        for tensor in tensors:
            while id(tensor) in self._same:
                tensor = self._same[id(tensor)]
            found.append(tensor)
        return found

    def run(self, model: keras.Model, prefix: str) -> keras.Model:
        """Call a copy of every layer of a model, and return the copy of the model."""

        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            values = keras.tree.flatten((args, kwargs))
            tensors = [value for value in values if isinstance(value, keras.KerasTensor)]
            if is_nested(layer):
                inner = self.run(layer, f"{prefix}{layer.name}/")
                outputs = inner(*args, **kwargs)
                self._link(inner.inputs, tensors)
                self._link(keras.tree.flatten(outputs), inner.outputs)
            else:
                outputs = layer(*args, **kwargs)
                constants = [value for value in values if not isinstance(value, keras.KerasTensor | bool | None)]
                self.calls.append(Call(prefix + layer.name, layer, tensors, keras.tree.flatten(outputs), constants))
            return outputs

        copy = keras.models.clone_model(functional(model), clone_function=copied_alone, call_function=call)
        self._kept.append(copy)
        return copy

    def _link(self, tensors: list[Any], origins: list[Any]) -> None:
        for tensor, origin in zip(tensors, origins, strict=True):
            self._same[id(tensor)] = origin
            self._kept.append(tensor)
