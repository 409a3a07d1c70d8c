"""Which models the rest of this room can work on."""

from __future__ import annotations

from typing import Any

import keras


def check_model(model: Any) -> None:
    """Raise unless a model is a built Keras 3 model whose graph can be read."""
    check_keras_3(model)
    if not model.built:
        raise ValueError(f"model {model.name!r} has no weights yet; start it with keras.Input(...) or call it once")
    if not has_graph(model):
        raise TypeError(
            f"model {model.name!r} is a subclass ({type(model).__name__}) whose graph cannot be read; "
            "build the same network as a Sequential or functional model"
        )


def check_keras_3(model: Any) -> None:
    """Raise unless a model is one of Keras 3."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"expected a Keras 3 model, got {type(model).__module__}.{type(model).__name__}; "
            "build it with `import keras`, not with tf.keras or tf_keras"
        )


def has_graph(model: keras.Model) -> bool:
    """Tell whether a Keras 3 model is a Sequential or functional one, whose graph can be read."""
    return isinstance(model, keras.Sequential) or hasattr(model, "operations")
