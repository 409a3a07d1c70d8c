"""The graph of a Keras 3 model: read call by call, and built once more with other layers in the place of some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from masslib.bridge.compiled import own_losses
from masslib.bridge.equality import leaves
from masslib.bridge.graph import check_model
from masslib.bridge.precision import unmixed
from masslib.bridge.replay import functional

if TYPE_CHECKING:
    import keras
    import numpy as np

    Chain = Sequence[tuple[keras.layers.Layer, list[np.ndarray]]]


def copied(model: keras.Model) -> keras.Model:
    """Copy a model with its weights and the states of its random layers, from mixed precision into float32."""
    import keras

    with own_losses(model):
        copy = unmixed(model)
        if copy is model:
            copy = keras.models.clone_model(model, recursive=True)
        elif model.compiled:
            copy.compile_from_config(model.get_compile_config())
    found = leaves(copy)
    for name, layer in leaves(model).items():
        if layer.variables:  # the names of inputs may differ
            _copy_variables(found[name], layer)
    return copy


def check_one_input(model: keras.Model) -> None:
    """Raise unless a model has one input, as the rows of a `Subset` have one array."""
    if len(model.inputs) != 1:
        names = ", ".join(tensor.name for tensor in model.inputs)
        raise ValueError(
            f"model {model.name!r} has {len(model.inputs)} inputs ({names}), and a Subset has one array; steps that "
            "need no data, such as Quantize('dynamic'), work without it"
        )


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
        import keras

        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            outputs = layer(*args, **kwargs)
            values = keras.tree.flatten((args, kwargs))
            tensors = [value for value in values if isinstance(value, keras.KerasTensor)]
            if readable(layer):
                inner = self.run(layer, f"{prefix}{layer.name}/")
                self._link(inner.inputs, tensors)
                self._link(keras.tree.flatten(outputs), inner.outputs)
            else:
                constants = [value for value in values if not isinstance(value, keras.KerasTensor | bool | None)]
                self.calls.append(Call(prefix + layer.name, layer, tensors, keras.tree.flatten(outputs), constants))
            return outputs

        copy = keras.models.clone_model(functional(model), call_function=call)
        self._kept.append(copy)
        return copy

    def _link(self, tensors: list[Any], origins: list[Any]) -> None:
        for tensor, origin in zip(tensors, origins, strict=True):
            self._same[id(tensor)] = origin
            self._kept.append(tensor)


def rebuilt(model: keras.Model, exchange: Callable[[keras.layers.Layer, str], Chain | None]) -> keras.Model:
    """Copy a model node by node, and put the layers that `exchange` returns in the place of those it is asked for.

    Args:
        model: A built Sequential or functional model; it is not changed.
        exchange: Called once for every layer, with its name (`outer/inner` in nested models). It returns new layers,
            each with its weights, to be called one after the other, or None for a copy of the layer.

    Returns:
        An uncompiled functional model.

    Raises:
        TypeError: If the graph of the model cannot be read.
        ValueError: If the model is not built.
    """
    import keras

    check_model(model)
    return _Rebuilder(exchange).run(model, keras.tree.flatten(functional(model).input), "")


def readable(layer: Any) -> bool:
    """Tell whether a layer is a model whose graph can be read."""
    import keras

    return isinstance(layer, keras.Sequential) or (isinstance(layer, keras.Model) and hasattr(layer, "operations"))


class _Rebuilder:
    def __init__(self, exchange: Callable[[keras.layers.Layer, str], Chain | None]):
        self._exchange = exchange
        self._made: dict[int, list[Any]] = {}

    def run(self, model: keras.Model, tensors: list[Any], prefix: str) -> keras.Model:
        """Rebuild a model for inputs of the shapes of some tensors."""
        import keras

        model = functional(model)
        shapes = iter(tensors)
        inputs = keras.tree.map_structure(
            lambda tensor: keras.Input(batch_shape=next(shapes).shape, dtype=tensor.dtype, name=tensor.name),
            model.input,
        )

        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            first_time = id(layer) not in self._made
            if first_time:
                self._made[id(layer)] = self._make(layer, prefix + layer.name, args)
            chain = self._made[id(layer)]
            for part, _ in chain[:-1]:
                args = (part(*args),)
            outputs = chain[-1][0](*args, **kwargs)
            if first_time:
                _fill(chain, layer)
            return outputs

        return keras.models.clone_model(model, input_tensors=inputs, clone_function=lambda it: it, call_function=call)

    def _make(self, layer: Any, name: str, args: tuple[Any, ...]) -> Sequence[tuple[Any, Any]]:
        import keras

        if readable(layer):
            return [(self.run(layer, keras.tree.flatten(args), f"{name}/"), None)]
        chain = self._exchange(layer, name) if isinstance(layer, keras.layers.Layer) else None
        return chain or [(type(layer).from_config(layer.get_config()), None)]


def _fill(chain: Sequence[tuple[Any, Any]], layer: Any) -> None:
    """Give new layers their weights, now that they are built, and a copy all variables, with its random state."""
    for new, weights in chain:
        if weights is not None:
            new.set_weights(weights)
        elif hasattr(new, "variables") and not readable(new):
            _copy_variables(new, layer)


def _copy_variables(target: keras.layers.Layer, source: keras.layers.Layer) -> None:
    for new, old in zip(target.variables, source.variables, strict=True):
        new.assign(old)
    if hasattr(target, "finalize_state"):  # Normalization derives from them what it computes with
        target.finalize_state()
