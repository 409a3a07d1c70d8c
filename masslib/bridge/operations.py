"""Operations in the graph of a Keras 3 model that are not layers: `x + y`, `x[:, 0]`, `keras.ops.reshape(...)`."""

from __future__ import annotations

from typing import Any

import keras
import tf_keras

from masslib.bridge.carried import carry_operation, is_tensor

_MERGES = ("Add", "Subtract", "Multiply", "Maximum", "Minimum")
_ACTIVATIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh"}


def twin_operation(operation: Any, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Apply an operation of Keras 3 to tensors of tf_keras, and return its output.

    Where tf_keras has a layer that does the same it is taken, because TFMOT knows layers only.

    Args:
        operation: A `keras.Operation` that is not a layer.
        name: Of the tf_keras layer.
        args: What the operation is called with: tensors of tf_keras, and constants.
        kwargs: The same by name.

    Raises:
        ValueError: If the operation or a constant cannot be copied.
    """
    kind = type(operation).__name__
    layer = None
    masked = any(getattr(tensor, "_keras_mask", None) is not None for tensor in keras.tree.flatten(args))
    # Operations of Keras 3 forget a mask, layers of tf_keras hand it on.
    if masked or not type(operation).__module__.startswith("keras.") or kwargs:
        return carry_operation(operation, name, args, kwargs)
    if kind in _MERGES and all(map(is_tensor, args)) and len({len(tensor.shape) for tensor in args}) == 1:
        args = (list(args),)
        layer = getattr(tf_keras.layers, kind)(name=name)
    elif kind == "Concatenate" and len(args) == 1 and all(map(is_tensor, args[0])):
        layer = tf_keras.layers.Concatenate(axis=operation.axis, name=name)
    elif kind in _ACTIVATIONS:
        layer = tf_keras.layers.Activation(_ACTIVATIONS[kind], name=name)
    elif kind == "Reshape" and list(operation.newshape) == [-1 if size is None else size for size in args[0].shape]:
        return args[0]  # nothing changes; what was told is the shape
    return layer(*args) if layer else carry_operation(operation, name, args, kwargs)
