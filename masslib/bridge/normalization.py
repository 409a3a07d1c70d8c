"""Normalization by adapted statistics, in a form that survives the copies that TFMOT makes."""

from __future__ import annotations

from functools import cache
from typing import Any

import tf_keras


@cache
def normalization() -> Any:
    """Return a `tf_keras.layers.Normalization` that reads its statistics whenever it is called.

    That of tf_keras holds a constant made of them by `adapt`, so a copy of a model that gets its weights by
    `set_weights`, as every TFMOT function makes it, would silently use mean 0 and variance 1.
    """

    @tf_keras.saving.register_keras_serializable(package="masslib")
    class Normalization(tf_keras.layers.Normalization):
        def call(self, inputs: Any) -> Any:
            self.finalize_state()
            return super().call(inputs)

    return Normalization
