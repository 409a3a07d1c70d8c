"""What must be refused before a conversion is tried, because it would fail obscurely or answer nonsense."""

from __future__ import annotations

import re
from numbers import Integral
from pathlib import Path
from typing import Any

import keras

from masslib.graph.nodes import named_layers

# What TensorFlow allows in the scopes of a graph; the model is the outermost one.
_SCOPE, _FIRST_SCOPE = r"[A-Za-z0-9_.\\/>-]*", r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*"
_UNSTRIPPED = {"PruneLowMagnitude": "strip_pruning", "ClusterWeights": "strip_clustering"}


def learned_ranges(model: Any) -> bool:
    """Tell whether quantization-aware training has given the model its int8 ranges.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If the model is one that cannot be exported as it is.
    """
    check_keras(model)
    aware = False
    for layer in named_layers(model).values():
        kind = type(layer).__name__
        if type(layer).__module__.startswith("tensorflow_model_optimization."):
            _check_wrapper(layer.name, kind)
            aware |= kind.startswith("QuantizeWrapper")
        policy = getattr(layer, "dtype_policy", None)
        if getattr(policy, "quantization_mode", None):
            raise ValueError(
                f"layer {layer.name!r} was quantized by Keras ({policy.name}), which TFLite cannot hold; export the "
                "model as it was before model.quantize(...), with masslib.Quantize('int8') or QuantizeAware()"
            )
    return aware


def unpacked(model: Any) -> tuple[Any, str, Any]:
    """Return the Keras model, the precision and the calibration rows of a `Compressed` model, or of a plain one."""
    if is_keras(model) or not hasattr(model, "precision"):  # a Keras model may have any attribute of its user's own
        return model, "float32", None
    return model.model, model.precision, model.calibration


def is_keras(model: Any) -> bool:
    """Tell whether something is a model of Keras 3 or tf_keras, without importing the latter."""
    classes = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(model).__mro__}
    return bool(classes & {"keras.Model", "tf_keras.Model"})


def check_keras(model: Any) -> None:
    """Refuse what is not a built Keras model, of Keras 3 or tf_keras, with names to write."""
    if not is_keras(model):
        raise TypeError(f"expected a Keras model, got {type(model).__name__}; pass `compressed.model`")
    for what in ("inputs", "outputs"):
        if not getattr(model, what, None):
            raise ValueError(
                f"model {model.name!r} does not tell its {what}; build it, or pass example_inputs, some rows of your "
                "data in the structure that it takes"
            )
    layers = {name: layer for name, layer in named_layers(model).items() if type(layer).__name__ != "InputLayer"}
    wrong = [name for name in layers if not re.fullmatch(_SCOPE, name)]
    if not re.fullmatch(_FIRST_SCOPE, model.name):
        wrong.append(model.name)
    if wrong:
        raise ValueError(
            f"TensorFlow cannot write the names {', '.join(map(repr, wrong))} of model {model.name!r} or its layers "
            "into a graph; use the letters a-z, digits and _ . - only"
        )


def check_plain(model: Any, precision: str, precisions: tuple[str, ...], name: str) -> None:
    """Refuse what a format cannot hold that Keras exports to.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If it is a tf_keras one, such as `QuantizeAware` makes, or the format lacks the precision.
    """
    if learned_ranges(model) or not isinstance(model, keras.Model):
        raise ValueError(
            f"model {model.name!r} is a tf_keras model, as QuantizeAware makes them, which {name} cannot hold; write "
            "it with masslib.export.tflite, or compress the Keras 3 model with Quantize('int8') instead"
        )
    if precision not in precisions:
        raise ValueError(
            f"{name} files can be {', '.join(precisions)}, not {precision}; use masslib.export.tflite for it"
        )


def check_suffix(path: Path, suffix: str, what: str) -> None:
    """Refuse a name that the format is not found by."""
    if path.suffix != suffix:
        raise ValueError(f"{path}: the name of {what} must end in {suffix}")


def check_sparse(sparse: bool, precision: str) -> None:
    """Refuse the sparse encoding together with any quantization: TFLite writes files then that cannot be loaded."""
    if sparse and precision != "float32":
        raise ValueError(
            f"sparse=True works for float32 files only, and this model is to be {precision}; leave one of them out "
            "(zeros of a quantized file are small too, once it is gzipped)"
        )


def check_batch_size(batch_size: Any) -> None:
    """Refuse a fixed batch that is no number of rows."""
    whole = isinstance(batch_size, Integral) and not isinstance(batch_size, bool)
    if batch_size is not None and not (whole and batch_size > 0):
        raise ValueError(f"batch_size={batch_size!r}: expected a positive integer, or None for batches of any size")


def _check_wrapper(name: str, kind: str) -> None:
    if kind in _UNSTRIPPED or kind.startswith("ClusterWeights"):
        strip = _UNSTRIPPED.get(kind, "strip_clustering")
        raise ValueError(
            f"layer {name!r} is still wrapped by TFMOT ({kind}), so the file would hold its masks and copies; call "
            f"tfmot's {strip}(model) first, or let masslib.compress do it all"
        )
    if kind == "QuantizeAnnotate":
        raise ValueError(f"layer {name!r} is annotated for quantization only; call tfmot's quantize_apply and train it")


def check_calibration(model: keras.Model, told: str) -> None:
    """Refuse what TensorFlow cannot calibrate: the loop of a recurrent layer crashes the process.

    Raises:
        ValueError: If a layer loops over its steps.
    """
    loops = [name for name, layer in named_layers(model).items() if _loops(layer)]
    if loops:
        raise ValueError(
            f"{told}: TensorFlow cannot calibrate the loops of the recurrent layers {', '.join(loops)}; use "
            "Quantize('dynamic') or 'float16', or make the layers with unroll=True"
        )


def _loops(layer: Any) -> bool:
    if isinstance(layer, keras.layers.Bidirectional):
        return _loops(layer.forward_layer) or _loops(layer.backward_layer)
    if isinstance(layer, keras.layers.Wrapper):
        return _loops(layer.layer)
    return isinstance(layer, keras.layers.RNN) and not layer.unroll
