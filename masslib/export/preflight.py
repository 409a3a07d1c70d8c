"""What must be refused before a conversion is tried, because it would fail obscurely or answer nonsense."""

from __future__ import annotations

import re
import warnings
from numbers import Integral
from pathlib import Path
from typing import Any

import keras
import numpy as np

from masslib.graph.nodes import named_layers
from masslib.graph.precision import unmixed
from masslib.runtime.arrays import converted, dtype_of

# Standardized columns stay below this; pixels of 0-255 do not.
_USUAL = 20.0
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


def unpacked(model: Any) -> tuple[Any, str, np.ndarray | None]:
    """Return the Keras model, the precision and the calibration rows of a `Compressed` model, or of a plain one."""
    if is_keras(model) or not hasattr(model, "precision"):  # a Keras model may have any attribute of its user's own
        return model, "float32", None
    return model.model, model.precision, model.calibration


def is_keras(model: Any) -> bool:
    """Tell whether something is a model of Keras 3 or tf_keras, without importing the latter."""
    classes = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(model).__mro__}
    return bool(classes & {"keras.Model", "tf_keras.Model"})


def check_keras(model: Any) -> None:
    """Refuse what is not a Keras model, of Keras 3 or tf_keras, with one input, one output and names to write."""
    if not is_keras(model):
        raise TypeError(f"expected a Keras model, got {type(model).__name__}; pass `compressed.model`")
    for what in ("inputs", "outputs"):
        if len(getattr(model, what, None) or ()) != 1:
            raise ValueError(
                f"model {model.name!r} has {len(getattr(model, what, None) or ())} {what}; expected a "
                "built model with one input and one output"
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


def plain_model(model: Any, precisions: tuple[str, ...], name: str) -> tuple[Any, str, np.ndarray | None]:
    """Return the Keras 3 model, its precision and its checked calibration rows, for formats that Keras exports to.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If it is a tf_keras one, such as `QuantizeAware` makes, or the format lacks the precision.
    """
    model, precision, calibration = unpacked(model)
    if learned_ranges(model) or not isinstance(model, keras.Model):
        raise ValueError(
            f"model {model.name!r} is a tf_keras model, as QuantizeAware makes them, which {name} cannot hold; write "
            "it with masslib.export.tflite, or compress the Keras 3 model with Quantize('int8') instead"
        )
    if precision not in precisions:
        raise ValueError(
            f"{name} files can be {', '.join(precisions)}, not {precision}; use masslib.export.tflite for it"
        )
    model = unmixed(model)
    if precision == "int8":
        return model, precision, check_calibration(calibration, model)
    return model, precision, None


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


def check_calibration(rows: Any, model: Any) -> np.ndarray:
    """Return the calibration rows as the model takes them, or raise when their ranges would be nonsense.

    Args:
        rows: `(n, *input_shape)`.
        model: Its input tells the shape and the type; numbers of words have no ranges that could look odd.

    Raises:
        TypeError: If they are not numbers.
        ValueError: If there are none, or they have another shape, or hold NaN or infinity.
    """
    rows = np.asarray(() if rows is None else rows)
    if rows.dtype.kind in "fiub" and not rows.size:
        raise ValueError("there are no calibration rows; int8 and int16x8 measure the ranges of activations on some")
    rows = _fitting(rows, model, "calibration rows")
    if rows.dtype.kind == "f":
        _warn_of_odd_ranges(rows)
    return rows


def check_examples(rows: Any, model: Any) -> np.ndarray | None:
    """Return the rows that a file is to be checked on, or raise as for the calibration rows."""
    return None if rows is None else _fitting(np.asarray(rows), model, "example_inputs")


def _fitting(rows: np.ndarray, model: Any, what: str) -> np.ndarray:
    """The rows in the type of the only input of a model."""
    entry = model.inputs[0]
    shape = tuple(entry.shape[1:])
    if rows.dtype.kind not in "fiub":
        raise TypeError(f"the {what} have dtype {rows.dtype}; expected numbers")
    fits = rows.ndim == len(shape) + 1 and all(
        want in (None, got) for want, got in zip(shape, rows.shape[1:], strict=True)
    )
    if not fits or not len(rows):
        raise ValueError(f"the {what} have shape {rows.shape}; the model takes (n, *{shape})")
    if not np.isfinite(rows).all():
        raise ValueError(f"{int((~np.isfinite(rows)).sum())} values of the {what} are NaN or infinite; clean the data")
    return converted(rows, dtype_of(keras.backend.standardize_dtype(entry.dtype), "takes", Path(model.name)))


def _warn_of_odd_ranges(rows: np.ndarray) -> None:
    low, high = float(rows.min()), float(rows.max())
    if low == high:
        problem = f"are constant ({low:g})"
    elif max(-low, high) > _USUAL:
        problem = f"range from {low:g} to {high:g}, which looks unnormalised"
    else:
        return
    warnings.warn(
        f"the calibration rows {problem}; the int8 ranges fit only inputs like them, so calibrate with the data "
        "the model was trained on",
        stacklevel=4,
    )


def _check_wrapper(name: str, kind: str) -> None:
    if kind in _UNSTRIPPED or kind.startswith("ClusterWeights"):
        strip = _UNSTRIPPED.get(kind, "strip_clustering")
        raise ValueError(
            f"layer {name!r} is still wrapped by TFMOT ({kind}), so the file would hold its masks and copies; call "
            f"tfmot's {strip}(model) first, or let masslib.compress do it all"
        )
    if kind == "QuantizeAnnotate":
        raise ValueError(f"layer {name!r} is annotated for quantization only; call tfmot's quantize_apply and train it")
