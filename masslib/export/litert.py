"""Export to TFLite, the format of LiteRT."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from masslib.bridge.toolkit import quiet
from masslib.export import parity, preflight, savedmodel
from masslib.files import BLANK_SEAL, replacing, seal

if TYPE_CHECKING:
    import keras


_CALIBRATED = ("int8", "int16x8")


class Exportable(Protocol):
    """What a compressed model tells about its export; `masslib.Compressed` is one."""

    model: Any
    precision: str
    calibration: np.ndarray | None


def tflite(model: keras.Model | Exportable, path: str | os.PathLike[str], *, sparse: bool = False) -> Path:
    """Write a model as a TFLite file, and check the file against the model.

    A plain Keras model becomes a float32 file; a `Compressed` model one in the precision of its `Quantize` or
    `QuantizeAware` step. Inputs and outputs stay float32 in every precision. The file carries its own SHA-256 in the
    metadata (`masslib.runtime.load` verifies it): LiteRT by itself accepts damaged weights silently.

    The method is TensorFlow's TFLiteConverter; see its guides on post-training quantization and on
    quantization-aware training.

    Args:
        model: A built Keras model with one input and one output, or a `Compressed` one. A tf_keras model that TFMOT
            trained for quantization becomes an int8 file.
        path: The file to write, ending in `.tflite`.
        sparse: Store kernels with many zeros without them (the converter's EXPERIMENTAL_SPARSITY), which makes the
            file itself smaller and not only what gzip leaves of it. For float32 only.

    Returns:
        The path of the file.

    Raises:
        TypeError: If `model` is neither.
        ValueError: If the name does not end in `.tflite`; the model still carries TFMOT's training wrappers, or
            was quantized by Keras; the calibration rows are missing, of another shape or not finite; sparse is
            asked for in another precision; or the file answers differently from the model by more than its
            precision allows. Nothing is left behind then.

    Example:
        >>> import masslib, tempfile
        >>> model = masslib.models.mlp((4,), 3)
        >>> masslib.export.tflite(model, tempfile.mkdtemp() + "/mlp.tflite").name
        'mlp.tflite'
    """
    path = Path(path)
    if path.suffix != ".tflite":
        raise ValueError(f"{path}: the name of a TFLite file must end in .tflite")
    precision, calibration = "float32", None
    if hasattr(model, "precision"):
        model, precision, calibration = model.model, model.precision, model.calibration
    aware = preflight.learned_ranges(model)
    precision = "int8" if aware else precision
    preflight.check_sparse(sparse, precision)
    if not aware and precision in _CALIBRATED:
        calibration = preflight.check_calibration(calibration, tuple(model.inputs[0].shape[1:]))
    with replacing(path) as temporary:
        content = _convert(model, lambda converter: _set_up(converter, precision, calibration, aware, sparse))
        temporary.write_bytes(_with_seal(content))
        seal(temporary)
        parity.check(temporary, model, precision, calibration)
    return path


def _convert(model: Any, set_up: Callable[[Any], None]) -> bytes:
    import keras
    import tensorflow as tf

    if not isinstance(model, keras.Model):
        with quiet():
            converter = tf.lite.TFLiteConverter.from_keras_model(model)
            set_up(converter)
            return converter.convert()
    # Through a SavedModel: from_keras_model prints a page of endpoints for a Keras 3 model.
    with tempfile.TemporaryDirectory() as folder:
        savedmodel.write(model, Path(folder, "model"), check=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(Path(folder, "model")))
        set_up(converter)
        return converter.convert()


def _set_up(converter: Any, precision: str, calibration: np.ndarray | None, aware: bool, sparse: bool) -> None:
    import tensorflow as tf

    if sparse:
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    # The ranges of a quantization-aware model are in its graph; layers without any stay in float.
    if precision in _CALIBRATED and not aware:
        converter.representative_dataset = lambda: ([row[None]] for row in calibration)
        converter.target_spec.supported_ops = [_integer_operators(precision)]


def _integer_operators(precision: str) -> Any:
    import tensorflow as tf

    if precision == "int8":
        return tf.lite.OpsSet.TFLITE_BUILTINS_INT8
    return tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8


def _with_seal(content: bytes) -> bytes:
    """Add a blank seal to the metadata of a TFLite flatbuffer."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(BLANK_SEAL, "uint8")
    entry.name, entry.buffer = "masslib_sha256", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
