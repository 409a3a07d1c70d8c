"""Layers and operations of Keras 3 that tf_keras lacks, run as they are inside of a tf_keras model."""

from __future__ import annotations

import functools
import inspect
import json
import uuid
import weakref
from functools import cache
from typing import Any

import keras
import tensorflow as tf
import tf_keras

from masslib._util.messages import first_paragraph
from masslib.graph.layers import copied_layer, missing_arguments

_TENSOR = "masslib tensor "
_OBJECT = "masslib object "
_OBJECTS: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
"""Layers that no text can describe, by what is written in place of it, for as long as a model carries a copy."""


def carry(layer: keras.layers.Layer, name: str | None = None) -> tf_keras.layers.Layer:
    """Return a tf_keras layer that runs a copy of a Keras 3 layer, with weights of its own.

    What Keras 3 computes with TensorFlow, tf_keras can train as well. TFMOT takes such a layer for one that it does
    not know: it is neither pruned nor clustered, and stays in float under `QuantizeAware`.

    It is what happens to layers outside of Keras that `custom_layers` does not name.

    Args:
        layer: A Keras 3 layer that can be copied by its `get_config`, or that has no variables. A model with it can be
            saved as tf_keras model if its class stands in a module or is decorated with
            `keras.saving.register_keras_serializable()`.
        name: Of the tf_keras layer; by default that of the layer.

    Returns:
        The tf_keras layer, not built yet.

    Raises:
        ValueError: If the layer cannot be copied, or has a constraint, which tf_keras would not apply.

    Example:
        >>> import keras, masslib
        >>> @keras.saving.register_keras_serializable()
        ... class Scale(keras.layers.Layer):
        ...     def build(self, shape):
        ...         self.scale = self.add_weight(shape=shape[-1:])
        ...     def call(self, x):
        ...         return x * self.scale
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), Scale()])
        >>> twin = masslib.bridge.to_tf_keras(model)
        >>> len(twin.weights)
        3
    """
    constrained = [weight.name for weight in layer.weights if weight.constraint is not None]
    if constrained:
        raise ValueError(
            f"{', '.join(constrained)} of it has a constraint, which tf_keras would not apply; make it without"
        )
    return carrier()(_written(layer), name=name or layer.name)


def carry_operation(operation: Any, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Apply an operation of Keras 3, such as `keras.ops.reshape`, to tensors of tf_keras and to constants."""
    tensors: list[Any] = []

    def slot(value: Any) -> Any:
        if not is_tensor(value):
            return value
        tensors.append(value)
        return f"{_TENSOR}{len(tensors) - 1}"

    arguments = keras.tree.map_structure(slot, [list(args), kwargs])
    return carrier()(_written(operation), _written(arguments), name=name)(tensors)


def is_tensor(value: Any) -> bool:
    """Tell whether this is an output of a tf_keras layer in a functional model."""
    try:
        return tf_keras.backend.is_keras_tensor(value)
    except ValueError:  # which it raises for what is no tensor at all
        return False


@cache
def carrier() -> Any:
    """Return the tf_keras layer class; the first call makes it known to tf_keras, so that models load."""

    @tf_keras.saving.register_keras_serializable(package="masslib")
    class Carried(tf_keras.layers.Layer):
        def __init__(self, carried: str, arguments: str | None = None, **kwargs: Any):
            inner = _read(carried)
            kwargs.setdefault("trainable", getattr(inner, "trainable", True))
            super().__init__(**kwargs, autocast=False)
            self.carried, self.arguments = carried, arguments
            origin = _OBJECTS.get(carried)
            self._origin = lambda: origin  # which must live as long as this layer
            # tf_keras would take a layer, of Keras 3 too, for a part of this one, and count its variables twice.
            self._inner = lambda: inner
            self._call = tf.autograph.experimental.do_not_convert(inner)
            self._trains = "training" in inspect.signature(inner.call).parameters
            self._own, self._state = [], []
            self.supports_masking = True

        def call(self, inputs: Any, *args: Any, training: Any = None, **kwargs: Any) -> Any:
            args = [inputs, *args]
            if self.arguments is not None:
                args, kwargs = _filled(_read(self.arguments), inputs)
            elif self._trains:
                kwargs["training"] = training
            outputs = self._call(*args, **kwargs)
            if not self._own:
                inner = self._inner()
                self._own = [variable.value for variable in getattr(inner, "weights", [])]
                # Such as the seed of a dropout, which is not counted among the weights.
                own = {id(variable) for variable in getattr(inner, "weights", [])}
                self._state = [v.value for v in getattr(inner, "variables", []) if id(v) not in own]
                # Functions, for what they return in the graph of a first call is of no use outside of it.
                for weight in self._regularized():
                    self.add_loss(functools.partial(weight.regularizer, weight))
            losses = getattr(self._inner(), "losses", [])
            for loss in losses[: len(losses) - len(self._regularized())]:  # those of this call stand first
                self.add_loss(loss)
            return outputs

        def _regularized(self) -> list[Any]:
            return [v for v in getattr(self._inner(), "trainable_weights", []) if v.regularizer is not None]

        @property
        def weights(self) -> list[Any]:
            """In the order of Keras 3."""
            return list(self._own)

        def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
            if not getattr(self._inner(), "supports_masking", False):
                return None
            return self._inner().compute_mask(inputs, mask)

        @property
        def random_states(self) -> list[Any]:
            return list(self._state)

        @property
        def kind(self) -> str:
            return type(self._inner()).__name__

        def get_config(self) -> dict[str, Any]:
            return super().get_config() | {"carried": self.carried, "arguments": self.arguments}

    def _filled(arguments: Any, tensors: Any) -> Any:
        tensors = tensors if isinstance(tensors, list | tuple) else [tensors]  # as a copy of the model passes one

        def fill(value: Any) -> Any:
            slot = isinstance(value, str) and value.startswith(_TENSOR)
            return tensors[int(value.removeprefix(_TENSOR))] if slot else value

        return keras.tree.map_structure(fill, arguments)

    return Carried


def check_portable(architecture: str) -> None:
    """Raise if the JSON of a tf_keras model stands for layers that only this process knows."""
    found = {type(layer).__name__ for key, layer in _OBJECTS.items() if key in architecture}
    if found:
        raise ValueError(
            f"layers of type {', '.join(sorted(found))} cannot be written; give them a get_config() and decorate their "
            "classes with @keras.saving.register_keras_serializable()"
        )


def _written(value: Any) -> str:
    """Tell how to make the object again, and prove that it can be."""
    try:
        written = json.dumps(keras.saving.serialize_keras_object(value))
        if isinstance(value, keras.layers.Layer) and missing_arguments(value, value.get_config()):
            raise TypeError("its settings are not complete")
        if type(_read(written)) is not type(value):
            raise TypeError(f"another class is registered as {type(value).__name__}")
    except Exception as error:  # whatever the class of a user raises
        if isinstance(value, keras.layers.Layer) and type(value).__name__ != "Lambda":
            written = f"{_OBJECT}{uuid.uuid4()}"
            _OBJECTS[written] = value
            return written
        raise ValueError(f"it cannot be copied ({first_paragraph(error).rstrip('.')})") from error
    return written


def _read(written: str) -> Any:
    if not written.startswith(_OBJECT):
        return keras.saving.deserialize_keras_object(json.loads(written))
    return copied_layer(_OBJECTS[written])
