"""Float32 copies of models that compute in mixed precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from masslib.graph.layers import copied_layer
from masslib.graph.nodes import named_nodes
from masslib.graph.rebuilding import rebuilt

_HALF = ("float16", "bfloat16")
_MIXED = tuple(f"mixed_{name}" for name in _HALF)


def unmixed(model: keras.Model) -> keras.Model:
    """Return a model as it is, or an uncompiled float32 copy of one that computes in mixed precision.

    TFMOT and the converters know float32 only, which is also what the weights are kept in. Models of tf_keras are
    returned as they are.
    """
    if not any(map(_is_mixed, named_nodes(model).values())):
        return model
    with _float32_policy():
        return rebuilt(model, _exchanged, input_dtype=_input_dtype)


def _exchanged(layer: keras.layers.Layer, _: str) -> Any:
    return [(copied_layer(layer, _unmixed), layer)]


def _input_dtype(dtype: str) -> str:
    """Keras makes the missing input of a Sequential in the type that its first layer computes in."""
    return "float32" if dtype in _HALF else dtype


def _is_mixed(layer: Any) -> bool:
    """Whether a layer of Keras 3 computes in another type than the one its weights are kept in."""
    if isinstance(layer, keras.layers.InputLayer) or not isinstance(layer, keras.layers.Layer):
        return False
    try:
        return any(map(_names_mixed, keras.tree.flatten(layer.get_config())))  # layers inside of it as well
    except (TypeError, ValueError, NotImplementedError):  # it cannot be copied, which is told elsewhere
        return layer.compute_dtype != layer.variable_dtype


@contextmanager
def _float32_policy() -> Iterator[None]:
    """Let layers that make layers of their own, without naming a policy, make them in float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _unmixed(config: Any) -> Any:
    """Replace the names of mixed policies, wherever they stand: a layer may hold others, with their own."""
    return keras.tree.map_structure(lambda value: "float32" if _names_mixed(value) else value, config)


def _names_mixed(value: Any) -> bool:
    return isinstance(value, str) and value in _MIXED
