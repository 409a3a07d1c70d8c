"""Settings of Keras 3 objects, translated into what tf_keras understands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tf_keras

from masslib.bridge import activations
from masslib.bridge.carried import carrier, carry
from masslib.bridge.normalization import normalization
from masslib.graph.layers import is_own, settings

CustomLayers = Mapping[type, Any]
"""Keras 3 layer class -> tf_keras layer class, or a function that makes the tf_keras layer of a Keras 3 layer."""

# Arguments that only changed their name between the two.
_RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}
_ACTIVATIONS = ("activation", "recurrent_activation")
# Settings without influence on what a float model computes, or that tf_keras has elsewhere.
_HARMLESS = {
    *("seed", "use_cudnn", "flash_attention", "data_format", "dtype", "quantization_config", "autocast"),
    *("lora_rank", "lora_alpha", "name"),
}
_TEXT = "it works on text, which no step can treat; look it up where the data are made, in front of the model"
_REFUSED = {
    "Lambda": "it holds Python code that cannot be copied; make it a layer class",
    "StringLookup": _TEXT,
    "TextVectorization": _TEXT,
    "Hashing": _TEXT,
    "HashedCrossing": _TEXT,
}
# Weights in another order, or integers that tf_keras makes of another type
_CARRIED = ("SpectralNormalization", "IntegerLookup")
_CARRIED_MODULE = "keras.src.layers.preprocessing.image_preprocessing"  # whose settings differ from those of tf_keras


def twin_layer(
    layer: keras.layers.Layer, name: str | None = None, custom_layers: CustomLayers | None = None
) -> tf_keras.layers.Layer:
    """Build the tf_keras layer with the settings of a Keras 3 layer, without weights, under its name or another.

    Raises:
        ValueError: If tf_keras has no such layer, or refuses its settings.
    """
    name = name or layer.name
    if type(layer) in (custom_layers or {}):
        return _named(_custom(layer, custom_layers[type(layer)]), name)
    kind = type(layer).__name__
    if is_own(layer):
        return carry(layer, name)
    if kind in _REFUSED:
        raise ValueError(_REFUSED[kind])
    if getattr(layer, "quantization_mode", None):
        raise ValueError("its weights are quantized already; start from the float model")
    if getattr(layer, "lora_enabled", False):
        raise ValueError("it has LoRA weights beside its kernel; save and load the model, which merges them")
    if getattr(layer, "stateful", False):
        raise ValueError("stateful=True: what it remembers between batches cannot cross")
    return _built_in(layer, name)


def is_parted(layer: keras.layers.Layer) -> bool:
    """Tell whether a layer becomes two, of which the second one is its `end`.

    TFMOT's wrappers never compute the activity regularizer of what they wrap, and tf_keras knows no functions of users.
    """
    if is_own(layer) or not any(hasattr(layer, name) for name in ("kernel", "pointwise_kernel", "embeddings")):
        return False
    return layer.activity_regularizer is not None or _has_own_function(layer)


def end(layer: keras.layers.Layer, name: str) -> tf_keras.layers.Layer:
    """Return what follows a layer that `is_parted`: the activity regularizer, and an activation of the user's."""
    activation = layer.activation if _has_own_function(layer) else "linear"
    return carry(keras.layers.Activation(activation, activity_regularizer=layer.activity_regularizer), name)


def _has_own_function(layer: keras.layers.Layer) -> bool:
    return _is_own_function(settings(layer).get("activation"))


def _is_own_function(value: Any) -> bool:
    return isinstance(value, dict) and value["class_name"] == "function"


def twin_object(value: Any) -> Any:
    """Translate the serialized form of a Keras 3 object (initializer, loss, optimizer, ...), nested ones too.

    What is not the form of an object, such as a number or the name of a loss, is returned as it is.

    Raises:
        ValueError: If tf_keras has no such object.
    """
    if isinstance(value, list | tuple):
        return [twin_object(item) for item in value]
    if not isinstance(value, dict):
        return value
    if not ("class_name" in value and "config" in value):
        return {key: twin_object(item) for key, item in value.items()}
    name, config, module = value["class_name"], value["config"], value.get("module") or ""
    if name.endswith("DTypePolicy"):
        return config["name"]
    if name == "function":
        return config
    if module == "keras.layers":
        return twin_layer(keras.saving.deserialize_keras_object(value))
    found: Any = tf_keras
    for part in module.split(".")[1:]:
        found = getattr(found, part, None)
    if not module.startswith("keras.") or not hasattr(found, name):
        raise ValueError(f"tf_keras has no {name}")
    twin_class = getattr(found, name)
    return twin_class.from_config(_known(twin_class, config))


def register() -> None:
    """Make known to tf_keras all that the bridge puts into its models, so that they load."""
    activations.register()
    carrier()
    normalization()


def _custom(layer: keras.layers.Layer, twin: type | Callable[[Any], Any]) -> tf_keras.layers.Layer:
    if isinstance(twin, type) and issubclass(twin, tf_keras.layers.Layer):
        return twin.from_config(_known(twin, layer.get_config()))
    made = twin(layer) if callable(twin) and not isinstance(twin, type) else twin
    if not isinstance(made, tf_keras.layers.Layer):
        raise ValueError(
            f"custom_layers has {twin!r} for it, expected a tf_keras layer class, or a function that returns a "
            "tf_keras layer"
        )
    return made


def _named(layer: tf_keras.layers.Layer, name: str) -> tf_keras.layers.Layer:
    """TFMOT copies layers in the same way: a layer that cannot be made again from its config is found here."""
    return layer if layer.name == name else type(layer).from_config(layer.get_config() | {"name": name})


def _built_in(layer: keras.layers.Layer, name: str) -> tf_keras.layers.Layer:
    kind = type(layer).__name__
    twin_class = normalization() if kind == "Normalization" else getattr(tf_keras.layers, kind, None)
    missing = twin_class is None or kind in _CARRIED or (kind == "Activation" and _has_own_function(layer))
    missing = missing or type(layer).__module__.startswith(_CARRIED_MODULE)
    renamed = _RENAMED.get(kind, {})
    config = {renamed.get(key, key): value for key, value in settings(layer).items()}
    if layer.activity_regularizer:
        # Layers of tf_keras without weights forget it when they are copied, as TFMOT copies them; its attention applies
        # it in other places.
        missing = missing or kind == "MultiHeadAttention" or "activity_regularizer" not in _arguments(twin_class)
    if missing or unknown_settings(type(layer), twin_class, config):
        return carry(layer, name)
    if is_parted(layer):
        config |= {"activity_regularizer": None} | ({"activation": "linear"} if _has_own_function(layer) else {})
    config |= {key: _activation(config[key]) for key in _ACTIVATIONS if key in config}
    return twin_class(**_known(twin_class, config) | {"name": name})


def unknown_settings(ours: type, twin_class: type, config: dict[str, Any]) -> set[str]:
    """Name the settings that the tf_keras class has no argument for, and that do not have their default."""
    parameters = {
        name: parameter for base in ours.__mro__[::-1] for name, parameter in inspect.signature(base).parameters.items()
    }
    unknown = config.keys() & parameters.keys() - _arguments(twin_class) - _HARMLESS
    return {key for key in unknown if config[key] != parameters[key].default}


def _activation(value: Any) -> Any:
    if _is_own_function(value):
        raise ValueError(
            f"its activation is a function of your own, {value['config']!r}; use a layer class in its place"
        )
    return activations.twin_activation(value) if isinstance(value, str) else twin_object(value)


def _arguments(twin_class: type) -> set[str]:
    known = {"name", "trainable", "dtype"} if hasattr(twin_class, "call") else set()
    if issubclass(twin_class, tf_keras.layers.RNN):
        known.add("zero_output_for_mask")  # hidden in its **kwargs
    for base in twin_class.__mro__:
        if "__init__" in base.__dict__:
            known |= set(inspect.signature(base.__init__).parameters)
    return known


def _known(twin_class: type, config: dict[str, Any]) -> dict[str, Any]:
    """Keep the arguments that the tf_keras class takes; Keras 3 configs carry more."""
    known = _arguments(twin_class)
    return {key: value if callable(value) else twin_object(value) for key, value in config.items() if key in known}
