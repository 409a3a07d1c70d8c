"""Activations of Keras 3 that tf_keras lacks, or gives another meaning."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

_RENAMED = {"silu": "swish", "hard_swish": "hard_silu"}


def twin_activation(name: str) -> Any:
    """Return what tf_keras takes as the `activation` that Keras 3 knows by this name.

    Most names mean the same in both, and are returned as they are. `hard_sigmoid` does not: it is
    `relu6(x + 3) / 6` in Keras 3 and `clip(0.2 x + 0.5, 0, 1)` in tf_keras.
    """
    name = _RENAMED.get(name, name)
    return register().get(name, name)


@cache
def register() -> dict[str, Callable[[Any], Any]]:
    """Make the functions known to tf_keras, so that layers which use them can be copied, saved and loaded."""
    import tensorflow as tf
    import tf_keras

    def hard_sigmoid(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu6(x + 3) / 6

    def hard_silu(x: tf.Tensor) -> tf.Tensor:
        return x * hard_sigmoid(x)

    def relu6(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu6(x)

    def leaky_relu(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.leaky_relu(x, 0.2)

    def log_softmax(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.log_softmax(x)

    functions = (hard_sigmoid, hard_silu, relu6, leaky_relu, log_softmax)
    known = tf_keras.saving.register_keras_serializable(package="masslib")
    return {function.__name__: known(function) for function in functions}
