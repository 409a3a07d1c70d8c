"""What must be refused before a conversion is tried, because it would fail obscurely or answer nonsense."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np

from masslib.graph.nodes import named_layers
from masslib.graph.precision import unmixed

# Standardized columns stay below this; pixels of 0-255 do not.
_USUAL = 20.0
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


def check_keras(model: Any) -> None:
    """Refuse what is not a Keras model, of Keras 3 or tf_keras."""
    if not hasattr(model, "layers") or not hasattr(model, "export"):
        raise TypeError(f"expected a Keras model, got {type(model).__name__}; pass `compressed.model`")
    for what in ("inputs", "outputs"):
        if len(getattr(model, what, None) or ()) != 1:
            raise ValueError(
                f"model {getattr(model, 'name', '')!r} has {len(getattr(model, what, None) or ())} {what}; expected a "
                "built model with one input and one output"
            )


def plain_model(model: Any, precisions: tuple[str, ...], name: str) -> tuple[Any, str, np.ndarray | None]:
    """Return the Keras 3 model, its precision and its checked calibration rows, for formats that Keras exports to.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If it is a tf_keras one, such as `QuantizeAware` makes, or the format lacks the precision.
    """
    precision, calibration = "float32", None
    if hasattr(model, "precision"):
        model, precision, calibration = model.model, model.precision, model.calibration
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
        return model, precision, check_calibration(calibration, tuple(model.inputs[0].shape[1:]))
    return model, precision, None


def check_sparse(sparse: bool, precision: str) -> None:
    """Refuse the sparse encoding together with any quantization: TFLite writes files then that cannot be loaded."""
    if sparse and precision != "float32":
        raise ValueError(
            f"sparse=True works for float32 files only, and this model is to be {precision}; leave one of them out "
            "(zeros of a quantized file are small too, once it is gzipped)"
        )


def check_batch_size(batch_size: Any) -> None:
    """Refuse a fixed batch that is no number of rows."""
    if batch_size is not None and (isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1):
        raise ValueError(f"batch_size={batch_size!r}: expected a positive integer, or None for batches of any size")


def check_calibration(rows: Any, shape: tuple[int | None, ...], dtype: Any = "float32") -> np.ndarray:
    """Return the calibration rows as the model takes them, or raise when their ranges would be nonsense.

    Args:
        rows: `(n, *shape)`.
        shape: Input shape of the model without the batch.
        dtype: Of the inputs; numbers of words have no ranges that could look odd.

    Raises:
        TypeError: If they are not numbers.
        ValueError: If there are none, or they have another shape, or hold NaN or infinity.
    """
    rows = np.asarray(() if rows is None else rows)
    if rows.dtype.kind not in "fiub":
        raise TypeError(f"the calibration rows have dtype {rows.dtype}; expected numbers")
    if not rows.size:
        raise ValueError("there are no calibration rows; int8 and int16x8 measure the ranges of activations on some")
    fits = rows.ndim == len(shape) + 1 and all(
        want in (None, got) for want, got in zip(shape, rows.shape[1:], strict=True)
    )
    if not fits:
        raise ValueError(f"the calibration rows have shape {rows.shape}; the model takes (n, *{shape})")
    if not np.isfinite(rows).all():
        raise ValueError(f"{int((~np.isfinite(rows)).sum())} calibration values are NaN or infinite; clean the data")
    wanted = np.dtype(getattr(dtype, "as_numpy_dtype", dtype))
    if wanted.kind == "f":
        _warn_of_odd_ranges(rows)
    return np.ascontiguousarray(rows, wanted)


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
