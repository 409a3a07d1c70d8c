"""The graph of a Keras 3 model: rebuilt with other layers in the place of some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras

from masslib.graph.checks import check_model
from masslib.graph.layers import copied_layer
from masslib.graph.nodes import functional, is_nested
from masslib.graph.weights import copy_trainable, copy_variables

if TYPE_CHECKING:
    import numpy as np

    Chain = Sequence[tuple[keras.layers.Layer, keras.layers.Layer | list[np.ndarray] | None]]


def rebuilt(
    model: keras.Model,
    exchange: Callable[[keras.layers.Layer, str], Chain | None],
    input_dtype: Callable[[str], str] = str,
) -> keras.Model:
    """Copy a model node by node, and put the layers that `exchange` returns in the place of those it is asked for.

    Args:
        model: A built Sequential or functional model; it is not changed.
        exchange: Called once for every layer, with its name (`outer/inner` in nested models). It returns new layers,
            each with its weights or the layer to copy all variables from, to be called one after the other; or None
            for a copy of the layer.
        input_dtype: Called with the dtype of every input; returns the one that the copy takes.

    Returns:
        An uncompiled functional model.

    Raises:
        TypeError: If the graph of the model cannot be read.
        ValueError: If the model is not built, or a layer cannot be copied.
    """
    check_model(model)
    result = _Rebuilder(exchange, input_dtype).run(model, keras.tree.flatten(functional(model).input), "")
    copy_trainable(model, result)
    return result


class _Rebuilder:
    def __init__(
        self, exchange: Callable[[keras.layers.Layer, str], Chain | None], input_dtype: Callable[[str], str]
    ) -> None:
        self._exchange, self._input_dtype = exchange, input_dtype
        self._made: dict[int, list[Any]] = {}

    def run(self, model: keras.Model, tensors: list[Any], prefix: str) -> keras.Model:
        """Rebuild a model for inputs of the shapes of some tensors."""
        model = functional(model)
        shapes = iter(tensors)
        inputs = keras.tree.map_structure(
            lambda tensor: keras.Input(
                batch_shape=next(shapes).shape, dtype=self._input_dtype(tensor.dtype), name=tensor.name
            ),
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
                _fill(chain)
            return outputs

        return keras.models.clone_model(model, input_tensors=inputs, clone_function=lambda it: it, call_function=call)

    def _make(self, layer: Any, name: str, args: tuple[Any, ...]) -> Sequence[tuple[Any, Any]]:
        if is_nested(layer):
            return [(self.run(layer, keras.tree.flatten(args), f"{name}/"), None)]
        chain = self._exchange(layer, name) if isinstance(layer, keras.layers.Layer) else None
        return chain or [(copied_layer(layer), layer if hasattr(layer, "variables") else None)]


def _fill(chain: Sequence[tuple[Any, Any]]) -> None:
    """Give new layers their weights, now that they are built, and a copy all variables, with its random state."""
    for new, weights in chain:
        if isinstance(weights, list):
            new.set_weights(weights)
        elif weights is not None and weights is not new:
            copy_variables(weights, new)
