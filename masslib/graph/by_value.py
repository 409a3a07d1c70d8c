"""Copies of layers whose settings cannot be had: their code, run on variables of the copy."""

from __future__ import annotations

import functools
from typing import Any

import keras


def by_value(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Copy a built layer without asking for its settings.

    The copy runs the `call` of the layer on copies of its variables, in a `keras.StatelessScope`. The layer is not
    changed, nor added to a graph, whatever is done with the copy. Keras cannot write the copy.
    """
    if isinstance(layer, ByValue):
        layer = layer.origin()

    # Keras reads from the signature what it hands on, such as `training` and masks.
    @functools.wraps(type(layer).call)
    def call(self: ByValue, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)

    return type(type(layer).__name__, (ByValue,), {"call": call, "__module__": __name__})(layer)


class ByValue(keras.layers.Layer):
    """Runs the code of another layer on variables of its own."""

    def __init__(self, layer: keras.layers.Layer) -> None:
        super().__init__(name=layer.name, trainable=layer.trainable, dtype=layer.dtype_policy)
        self.origin = lambda: layer  # Keras would take an attribute for a part of this layer
        weights = {id(weight) for weight in layer.weights}
        # One part each, so that they keep their order.
        self.parts = [_Weight(v) if id(v) in weights else _RandomState(v) for v in layer.variables]
        self.supports_masking = layer.supports_masking
        self.built = True

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        return self.origin().compute_output_spec(*args, **kwargs)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return self.origin().compute_mask(inputs, previous_mask)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Do what the other layer does in its `call`."""
        layer = self.origin()
        pairs = [(theirs, part.copy) for theirs, part in zip(layer.variables, self.parts, strict=True)]
        with keras.StatelessScope(state_mapping=pairs, collect_losses=True) as scope:
            before = [scope.get_current_value(theirs) for theirs, _ in pairs]
            outputs = layer.call(*args, **kwargs)
        for (theirs, own), value in zip(pairs, before, strict=True):
            after = scope.get_current_value(theirs)
            if after is not value:
                own.assign(after)
        for loss in scope.losses:
            self.add_loss(loss)
        return outputs


class _Weight(keras.layers.Layer):
    """A copy of one weight."""

    def __init__(self, variable: keras.Variable) -> None:
        super().__init__(name=variable.name, dtype=variable.dtype)
        self.copy = self.add_weight(
            shape=variable.shape,
            initializer="zeros",
            dtype=variable.dtype,
            trainable=variable.trainable,
            regularizer=variable.regularizer,
            constraint=variable.constraint,
            aggregation=variable.aggregation,
            name=variable.name,
        )
        self.copy.assign(variable)


class _RandomState(keras.layers.Layer):
    """A copy of the state of a random generator, which is a variable but not a weight."""

    def __init__(self, variable: keras.Variable) -> None:
        super().__init__()
        self.generator = keras.random.SeedGenerator(0)
        self.copy.assign(variable)

    @property
    def copy(self) -> keras.Variable:
        return self.generator.state
