"""Activations of Keras 3 that tf_keras lacks, or gives another meaning."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import keras
import tf_keras

_RENAMED = {"silu": "swish", "hard_swish": "hard_silu"}
# `relu6(x + 3) / 6` in Keras 3, `clip(0.2 x + 0.5, 0, 1)` in tf_keras
_DIFFERENT = {"hard_sigmoid"}


def twin_activation(name: str) -> Any:
    """Return what tf_keras takes as the `activation` that Keras 3 knows by this name.

    Most names mean the same in both, and are returned as they are. For the others it is the function of Keras 3.
    """
    name = _RENAMED.get(name, name)
    return register().get(name, name)


@cache
def register() -> dict[str, Callable[[Any], Any]]:
    """Make the functions known to tf_keras, so that layers which use them can be copied, saved and loaded."""
    known = tf_keras.saving.register_keras_serializable(package="masslib")
    return {
        name: known(_same(function))
        for name, function in inspect.getmembers(keras.activations, inspect.isfunction)
        if name in _DIFFERENT or not hasattr(tf_keras.activations, name)
        if name not in ("serialize", "deserialize", "get", *_RENAMED)
    }


def _same(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function of our own, because registering it marks it."""

    def activation(x: Any) -> Any:
        return function(x)

    activation.__name__ = function.__name__
    return activation
