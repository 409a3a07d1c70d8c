"""Settings of Keras 3 objects, translated into what tf_keras understands."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from masslib.bridge.activations import twin_activation

if TYPE_CHECKING:
    import keras
    import tf_keras

# Arguments that only changed their name between the two.
_RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}


def twin_layer(layer: keras.layers.Layer, name: str | None = None) -> tf_keras.layers.Layer:
    """Build the tf_keras layer with the settings of a Keras 3 layer, without weights, under its name or another.

    Raises:
        ValueError: If tf_keras has no such layer, or refuses its settings.
    """
    import tf_keras

    kind = type(layer).__name__
    twin_class = getattr(tf_keras.layers, kind, None)
    if twin_class is None or not type(layer).__module__.startswith("keras."):
        raise ValueError(f"tf_keras has no such layer ({type(layer).__module__})")
    renamed = _RENAMED.get(kind, {})
    config = {renamed.get(key, key): value for key, value in layer.get_config().items()}
    config = _known(twin_class, config) | {"name": name or layer.name}
    if isinstance(config.get("activation"), str):
        config["activation"] = twin_activation(config["activation"])
    return twin_class.from_config(config)


def twin_object(value: Any) -> Any:
    """Translate the serialized form of a Keras 3 object (initializer, loss, optimizer, ...), nested ones too.

    What is not the form of an object, such as a number or the name of a loss, is returned as it is.

    Raises:
        ValueError: If tf_keras has no such object.
    """
    import tf_keras

    if isinstance(value, list | tuple):
        return [twin_object(item) for item in value]
    if not isinstance(value, dict):
        return value
    if not ("class_name" in value and "config" in value):
        return {key: twin_object(item) for key, item in value.items()}
    name, config = value["class_name"], value["config"]
    if name.endswith("DTypePolicy"):
        return config["name"]
    if name == "function":
        return config
    modules = ("initializers", "regularizers", "constraints", "losses", "metrics", "optimizers")
    for module in [*(getattr(tf_keras, module) for module in modules), tf_keras.optimizers.schedules]:
        if hasattr(module, name):
            twin_class = getattr(module, name)
            return twin_class.from_config(_known(twin_class, config))
    raise ValueError(f"tf_keras has no {name}")


def _known(twin_class: type, config: dict[str, Any]) -> dict[str, Any]:
    """Keep the arguments that the tf_keras class takes; Keras 3 configs carry more."""
    known = {"name", "trainable", "dtype"} if hasattr(twin_class, "call") else set()
    for base in twin_class.__mro__:
        if "__init__" in base.__dict__:
            known |= set(inspect.signature(base.__init__).parameters)
    return {key: twin_object(value) for key, value in config.items() if key in known}
