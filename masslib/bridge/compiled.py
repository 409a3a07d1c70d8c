"""Optimizer, loss and metrics of a compiled model, carried over to its twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from masslib.bridge.translate import twin_object

if TYPE_CHECKING:
    import keras
    import tf_keras


def compile_like(twin: tf_keras.Model, model: keras.Model, *, learning_rate: float | None = None) -> None:
    """Compile a tf_keras model the way its Keras 3 original was compiled.

    Optimizer, loss, loss weights and metrics cross with their settings; the state of the optimizer does not.

    Args:
        twin: The tf_keras model to compile, in place.
        model: The compiled Keras 3 model.
        learning_rate: Replaces the optimizer's learning rate or schedule if given.

    Raises:
        ValueError: If `model` was not compiled, or one of the objects has no tf_keras counterpart.

    Example:
        >>> import masslib
        >>> model = masslib.models.mlp((4,), 3)
        >>> model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
        >>> twin = masslib.bridge.to_tf_keras(model)
        >>> masslib.bridge.compile_like(twin, model, learning_rate=0.1)
        >>> type(twin.optimizer).__name__
        'SGD'
    """
    config = model.get_compile_config() if getattr(model, "compiled", False) else None
    if not config:
        raise ValueError(f"model {model.name!r} is not compiled, so its loss is unknown; call model.compile(...) first")
    if learning_rate is not None:
        config["optimizer"]["config"]["learning_rate"] = learning_rate
    twin.compile(
        optimizer=twin_object(config["optimizer"]),
        loss=twin_object(config["loss"]),
        loss_weights=config["loss_weights"],
        metrics=twin_object(config["metrics"]),
        weighted_metrics=twin_object(config["weighted_metrics"]),
    )
