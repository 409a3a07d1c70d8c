"""A Keras 3 model, built once more with other layers in the place of some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from masslib.bridge.equality import leaves
from masslib.bridge.replay import functional

if TYPE_CHECKING:
    import keras
    import numpy as np

    Chain = Sequence[tuple[keras.layers.Layer, list[np.ndarray]]]


def copied(model: keras.Model) -> keras.Model:
    """Copy a model with its weights and the states of its random layers."""
    import keras

    copy = keras.models.clone_model(model)
    for new, layer in zip(leaves(copy).values(), leaves(model).values(), strict=True):
        _copy_variables(new, layer)
    return copy


def rebuilt(model: keras.Model, replace: Callable[[keras.layers.Layer, str], Chain | None]) -> keras.Model:
    """Copy a model node by node, and put the layers that `replace` returns in the place of those it is asked for.

    Args:
        model: A built Sequential or functional model; it is not changed.
        replace: Called once for every layer, with its name (`outer/inner` in nested models). It returns new layers,
            each with its weights, to be called one after the other, or None for a copy of the layer.

    Returns:
        A functional model, uncompiled if `model` was.

    Raises:
        TypeError: If the graph of the model cannot be read.
    """
    import keras

    if not isinstance(model, keras.Model):
        raise TypeError(
            f"expected a Keras 3 model, got {type(model).__module__}.{type(model).__name__}; "
            "build it with `import keras`, not with tf.keras or tf_keras"
        )
    if not readable(model):
        raise TypeError(
            f"model {model.name!r} is a subclass ({type(model).__name__}) whose graph cannot be read; "
            "build the same network as a Sequential or functional model"
        )
    return _Rebuilder(replace).run(model, keras.tree.flatten(functional(model).input), "")


def readable(layer: Any) -> bool:
    """Tell whether a layer is a model whose graph can be read."""
    import keras

    return isinstance(layer, keras.Sequential) or (isinstance(layer, keras.Model) and hasattr(layer, "operations"))


class _Rebuilder:
    def __init__(self, replace: Callable[[keras.layers.Layer, str], Chain | None]):
        self._replace = replace
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
        chain = self._replace(layer, name) if isinstance(layer, keras.layers.Layer) else None
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
