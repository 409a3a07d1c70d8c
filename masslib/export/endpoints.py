"""The functions that a file is to hold: their inputs and outputs by name, as converters and checks take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from masslib._util.structures import encoded, flat, mapped
from masslib.export import preflight
from masslib.formats import metadata
from masslib.graph import ends
from masslib.runtime.signature import DEFAULT, arranged, packed


@dataclass(frozen=True)
class Endpoint:
    """A function of a file.

    Attributes:
        name: Of its signature.
        model: The Keras 3 or tf_keras model that it runs, or a `tf.function`.
        takes: The names of its inputs, in their structure.
        answers: The names of its outputs, in their structure.
        specs: Name -> shape and type of the inputs, the rows first.
        call: What it does: a structure of tensors to a structure of tensors.
    """

    name: str
    model: Any
    takes: Any
    answers: Any
    specs: dict[str, tf.TensorSpec]
    call: Callable[[Any], Any]

    def graph(self, *tensors: Any) -> dict[str, Any]:
        """Answer tensors, in the order of `specs`, by name."""
        return arranged(self.call(packed(dict(zip(self.specs, tensors, strict=True)), self.takes)), self.answers)

    def answered(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Answer arrays by name."""
        return self.graph(*(arrays[name] for name in self.specs))

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"model {self.model.name!r}" if hasattr(self.model, "name") else f"function {self.name!r}"

    @property
    def told(self) -> dict[str, Any]:
        """What a file tells of it, for `masslib.runtime`."""
        return {"inputs": encoded(self.takes), "outputs": encoded(self.answers)}

    @property
    def plain(self) -> bool:
        """Whether a file need not tell it, because names without structure say as much."""
        return all(names == _bare(flat(names)) for names in (self.takes, self.answers))


def parts(model: Any) -> dict[str, Any]:
    """The models that are to become the signatures of a file, by name; one alone is the default one.

    Raises:
        TypeError: If the names are no strings.
        ValueError: If there is no model, or a name does not suit a file.
    """
    if not isinstance(model, Mapping):
        return {DEFAULT: model}
    if not model or not all(isinstance(name, str) for name in model):
        raise TypeError(f"signatures {list(model)}: expected a dict of at least one name to a model")
    if DEFAULT in list(model)[1:]:
        raise ValueError(f"signatures {list(model)}: {DEFAULT!r} is the first one; call this one otherwise")
    wrong = [name for name in model if not ends.NAME.fullmatch(name)]
    if wrong:
        raise ValueError(f"signatures {wrong}: use the letters a-z, digits and _ . - only")
    return dict(model)


def only(model: Any, what: str) -> Any:
    """The model of a format that holds one signature."""
    if isinstance(model, Mapping):
        raise TypeError(
            f"{what} holds one model, got a dict of {len(model)}; write a file for each, or use masslib.export.tflite "
            "or saved_model, which hold several signatures"
        )
    return model


def endpoint(name: str, model: Any, batch_size: int | None = None, apart: bool = False) -> Endpoint:
    """Describe a model with known inputs, or a `tf.function` with an `input_signature`.

    Args:
        name: Of the signature.
        model: What `seen` has made of what was passed.
        batch_size: Rows that it takes at once; None for any number, or what the model says.
        apart: Whether no output may be called as an input is.
    """
    if not preflight.is_keras(model):
        return _of_function(name, model, batch_size)
    takes, answers = ends.input_names(model), ends.output_names(model)
    if apart:
        answers = mapped(lambda output: f"{output}_output" if output in flat(takes) else output, answers)
    pairs = zip(keras.tree.flatten(takes), keras.tree.flatten(ends.inputs(model)), strict=True)
    specs = {
        key: tf.TensorSpec(
            (batch_size or tensor.shape[0], *tensor.shape[1:]), keras.backend.standardize_dtype(tensor.dtype), name=key
        )
        for key, tensor in pairs
    }
    return Endpoint(name, model, takes, answers, specs, lambda x: model(x, training=False))


def _of_function(name: str, function: Any, batch_size: int | None) -> Endpoint:
    if batch_size is not None:
        raise ValueError(f"batch_size={batch_size}: function {name!r} says itself how many rows it takes")
    concrete = function.get_concrete_function()
    arguments, named = concrete.structured_input_signature
    if named:
        raise ValueError(f"function {name!r} takes keywords ({', '.join(named)}); let it take one dict instead")
    structure = ends.plain(arguments[0] if len(arguments) == 1 else arguments)
    tensors = keras.tree.flatten(structure)
    takes = ends.named(structure, [tensor.name or "" for tensor in tensors], "input")
    specs = {
        key: tf.TensorSpec(tensor.shape, tensor.dtype, name=key)
        for key, tensor in zip(keras.tree.flatten(takes), tensors, strict=True)
    }
    answers = ends.named(ends.plain(concrete.structured_outputs), [""] * len(concrete.outputs), "output")
    many = len(arguments) > 1
    return Endpoint(name, function, takes, answers, specs, lambda x: function(*x) if many else function(x))


def seen(name: str, model: Any, rows: Any) -> Any:
    """The model itself, or a functional view of a subclassed one, whose inputs are told by rows of data.

    Args:
        name: Of the signature.
        model: A model of either Keras, or a `tf.function` with an `input_signature`.
        rows: Arrays in the structure of the inputs, or None.

    Raises:
        TypeError: If it is something else.
        ValueError: If its inputs are unknown.
    """
    if hasattr(model, "get_concrete_function") and not preflight.is_keras(model):
        if getattr(model, "input_signature", None) is None:
            raise ValueError(f"function {name!r} has no input_signature; pass one to tf.function")
        return model
    if not isinstance(model, keras.Model) or getattr(model, "inputs", None):
        preflight.check_keras(model)
        return model
    if rows is None:
        raise ValueError(
            f"model {model.name!r} does not tell its inputs; pass example_inputs, some rows of your data in the "
            "structure that it takes"
        )
    leaves = [_input(path, leaf) for path, leaf in keras.tree.flatten_with_path(rows)]
    inputs = keras.tree.pack_sequence_as(rows, leaves)
    view = keras.Model(inputs, model(inputs, training=False), name=model.name)
    preflight.check_keras(view)
    return view


def by_name(value: Any, parts: Mapping[str, Any], several: bool) -> dict[str, Any]:
    """What was passed for each signature, such as rows: a dict of them where there are several signatures."""
    if not several or value is None:
        return dict.fromkeys(parts, value)
    if not isinstance(value, Mapping) or not set(value) <= set(parts):
        raise ValueError(
            f"expected example_inputs as a dict by signature, of {', '.join(parts)}; got "
            f"{list(value) if isinstance(value, Mapping) else type(value).__name__}"
        )
    return {name: value.get(name) for name in parts}


def check_labels(labels: Sequence[str] | None, several: list[Endpoint]) -> list[str] | None:
    """Return the labels as a list, or raise where they do not name the values of one output."""
    if labels is None:
        return None
    outputs = [name for endpoint in several for name in flat(endpoint.answers)]
    if len(outputs) > 1:
        raise ValueError(
            f"labels name the values of one output, but there are {len(outputs)}: {', '.join(outputs)}; leave them out"
        )
    (shape,) = (tensor.shape for tensor in several[0].model.outputs) if preflight.is_keras(several[0].model) else ((),)
    return metadata.check_labels(labels, shape[-1] if shape else None)


def _input(path: tuple[Any, ...], rows: Any) -> Any:
    if not getattr(rows, "ndim", 0):
        raise ValueError(
            f"example_inputs hold a {type(rows).__name__}; expected arrays (n, ...) in the model's structure"
        )
    dtype = tf.as_dtype(rows.dtype)
    # NumPy makes floats of 8 bytes, which no layer computes in unless it is told.
    dtype = keras.config.floatx() if dtype.is_floating else dtype.name
    # Keras wants the inputs of a dict to be called by their keys.
    return keras.Input(rows.shape[1:], dtype=dtype, name=path[-1] if path and isinstance(path[-1], str) else None)


def _bare(names: list[str]) -> Any:
    return names[0] if len(names) == 1 else {name: name for name in names}
