"""Regularizers of what a layer returns, which tf_keras divides by the number of rows and Keras 3 does not."""

from __future__ import annotations

from functools import cache
from typing import Any

import tensorflow as tf
import tf_keras


@cache
def of_whole_batch() -> Any:
    """Return the tf_keras regularizer class that takes this division back; the first call makes it known."""

    @tf_keras.saving.register_keras_serializable(package="masslib")
    class OfWholeBatch(tf_keras.regularizers.Regularizer):
        def __init__(self, regularizer: Any):
            self.regularizer = tf_keras.regularizers.get(regularizer)

        def __call__(self, outputs: Any) -> Any:
            return self.regularizer(outputs) * tf.cast(tf.shape(outputs)[0], outputs.dtype)

        def get_config(self) -> dict[str, Any]:
            return {"regularizer": tf_keras.regularizers.serialize(self.regularizer)}

    return OfWholeBatch
