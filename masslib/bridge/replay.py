"""The graph of a Keras 3 model, called once more, node by node, with layers of tf_keras beside its own."""

from __future__ import annotations

import inspect
import re
from typing import Any

import keras
import tf_keras

from masslib._util.messages import first_line
from masslib.bridge.carried import carry
from masslib.bridge.operations import twin_operation
from masslib.bridge.translate import CustomLayers, end, is_parted, twin_layer
from masslib.graph.layers import copied_layer, is_own
from masslib.graph.nodes import functional, is_nested, nodes

# What TensorFlow takes as the name of a scope
_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*", re.ASCII)


class Replay:
    """Calls a Keras 3 copy of a model and the tf_keras twins of its layers side by side.

    Attributes:
        problems: Name of a layer -> why it has no twin. The replay goes on behind such a layer, to find them all.
    """

    def __init__(self, custom_layers: CustomLayers | None = None) -> None:
        self.problems: dict[str, str] = {}
        self._custom_layers = custom_layers
        self._layers: dict[str, Any] = {}
        self._models: dict[str, keras.Model] = {}
        self._seen: dict[int, str] = {}
        self._tensors: dict[int, Any] = {}
        self._kept: list[Any] = []  # an id is only unique while its tensor is alive

    def run(self, model: keras.Model) -> tuple[keras.Model, tf_keras.Model] | None:
        """Return the copy, which has fresh weights, and the twin; or None if there are problems."""
        if not self._prepare(model, ""):
            return None
        twin_inputs = keras.tree.map_structure(_twin_input, functional(model).input)
        reference, outputs = self._walk(model, keras.tree.flatten(twin_inputs), prefix="")
        return None if self.problems else (reference, tf_keras.Model(twin_inputs, outputs, name=_plain(model.name)))

    def _prepare(self, model: keras.Model, prefix: str) -> bool:
        """Make the twins of all layers; tell whether the graph can be replayed to find what else is wrong."""
        copied = True
        for layer in nodes(model):
            name = prefix + layer.name
            if self._seen.setdefault(id(layer), name) != name:
                reason = f"it is the layer {self._seen[id(layer)]!r} as well; share layers inside of one model only"
                self.problems[name] = reason
            elif is_nested(layer):
                copied &= self._prepare(layer, f"{name}/")
            elif isinstance(layer, keras.layers.InputLayer):
                if layer.dtype == "string" or getattr(layer, "sparse", False) or getattr(layer, "ragged", False):
                    self.problems[name] = "InputLayer: only dense inputs of numbers can cross"
            elif not _NAME.fullmatch(name):
                self.problems[name] = "tf_keras takes names of Latin letters, digits, and . _ - / only; rename it"
            elif isinstance(layer, keras.layers.Layer):
                copied &= self._make(layer, name)
        return copied

    def _make(self, layer: keras.layers.Layer, name: str) -> bool:
        """Make the twin of a layer; tell whether the layer itself can be copied."""
        try:
            self._layers[name] = twin_layer(layer, name, self._custom_layers)
        except (TypeError, ValueError, NotImplementedError) as error:
            self._report(name, layer, error)
        if not is_own(layer) and type(layer).__name__ != "Lambda":
            return True
        try:
            copied_layer(layer)
        except ValueError as error:
            self._report(name, layer, error)
            return False
        return True

    def _walk(self, model: keras.Model, twin_inputs: list[Any], prefix: str) -> tuple[keras.Model, Any]:
        model = functional(model)
        inputs = keras.tree.map_structure(
            lambda tensor: keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name), model.input
        )
        self._pair(inputs, twin_inputs)

        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            name = prefix + layer.name
            twin_args, twin_kwargs = keras.tree.map_structure(
                lambda value: self._tensors.get(id(value), value), (args, kwargs)
            )
            if is_nested(layer):
                copy, twin_outputs = self._walk(layer, keras.tree.flatten(twin_args), f"{name}/")
                outputs = self._models.setdefault(name, copy)(*args, **kwargs)
            else:
                outputs = layer(*args, **kwargs)
                twin_outputs = self._call_twin(layer, name, twin_args, twin_kwargs, outputs)
            self._pair(outputs, twin_outputs)
            return outputs

        reference = keras.models.clone_model(
            model, input_tensors=inputs, clone_function=_copied_alone, call_function=call
        )
        return reference, keras.tree.map_structure(lambda tensor: self._tensors[id(tensor)], reference.output)

    def _call_twin(self, layer: Any, name: str, args: tuple, kwargs: dict[str, Any], answers: Any) -> Any:
        if name not in self.problems:
            try:
                if not isinstance(layer, keras.layers.Layer):
                    return twin_operation(layer, name, args, kwargs)
                first, named = _first_and_named(layer, args, kwargs)
                if isinstance(layer, keras.layers.Softmax) and "mask" in named:
                    # In tf_keras the answer for a row of which all is masked is another one.
                    self._layers[name] = carry(layer, name)
                twin = self._layers[name]
                outputs = twin(first, **named)
                if not is_parted(layer) or type(layer) in (self._custom_layers or {}) or hasattr(twin, "carried"):
                    return outputs
                return self._layers.setdefault(f"{name}_end", end(layer, f"{name}_end"))(outputs)
            except Exception as error:  # whatever a layer raises when it is called; it is told with all the others
                self._report(name, layer, error)
        return keras.tree.map_structure(_twin_input, answers)

    def _report(self, name: str, layer: Any, error: Exception) -> None:
        reason = first_line(error)
        self.problems.setdefault(name, f"{type(layer).__name__}: {reason}")

    def _pair(self, tensors: Any, twins: Any) -> None:
        for tensor, twin in zip(keras.tree.flatten(tensors), keras.tree.flatten(twins), strict=True):
            self._tensors[id(tensor)] = twin
            self._kept.append(tensor)


def _copied_alone(layer: Any) -> Any:
    """Copy a layer; a model inside of a model is copied layer by layer when its turn comes.

    Keras 3 would copy it as a whole, which works for registered layers only.
    """
    return layer if is_nested(layer) else copied_layer(layer)


def _first_and_named(layer: keras.layers.Layer, args: tuple, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Name the arguments behind the first: a copy of a tf_keras model forgets those without a name.

    `training` is left to the model, as Keras 3 leaves it: what a layer was called with in the graph, its default in
    most cases, gives way to what the model is called with. In tf_keras it would not.
    """
    signature = inspect.signature(layer.call)
    named = signature.bind_partial(*args).arguments | kwargs
    first = named.pop(next(iter(signature.parameters)))
    return first, {key: value for key, value in named.items() if value is not None and key != "training"}


def _twin_input(tensor: keras.KerasTensor) -> Any:
    name = _plain(tensor.name)
    return tf_keras.Input(tensor.shape[1:], batch_size=tensor.shape[0], dtype=tensor.dtype, name=name)


def _plain(name: str) -> str:
    """A name that TensorFlow takes in the place of one of an input or a model, by which no weights are found."""
    return name if _NAME.fullmatch(name) else re.sub(r"[^A-Za-z0-9_.-]", "_", f"x_{name}", flags=re.ASCII)
