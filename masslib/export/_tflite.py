"""Export to TFLite, the format of LiteRT."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from masslib._util.files import BLANK_SEAL, replacing, seal
from masslib.export import _saved_model as savedmodel
from masslib.export import inference, int4, parity, preflight
from masslib.formats import metadata, schema
from masslib.graph.precision import unmixed

_CALIBRATED = ("int8", "int16x8")


class Exportable(Protocol):
    """What a compressed model tells about its export; `masslib.Compressed` is one."""

    @property
    def model(self) -> Any: ...

    @property
    def precision(self) -> str: ...

    @property
    def calibration(self) -> np.ndarray | None: ...


def tflite(
    model: keras.Model | Exportable,
    path: str | os.PathLike[str],
    *,
    sparse: bool = False,
    batch_size: int | str | None = None,
    labels: Sequence[str] | None = None,
    description: str | None = None,
    example_inputs: np.ndarray | None = None,
) -> Path:
    """Write a model as a TFLite file, and check the file against the model.

    A plain Keras model becomes a float32 file; a `Compressed` model one in the precision of its `Quantize` or
    `QuantizeAware` step. A model that computes in mixed precision is written in float32. Inputs and outputs stay
    float32 in every precision. The file carries its own SHA-256 in the metadata (`masslib.runtime.load` verifies it):
    LiteRT by itself accepts damaged weights silently.

    The method is TensorFlow's TFLiteConverter; see its guides on post-training quantization and on
    quantization-aware training.

    Args:
        model: A built Keras model with one input and one output, or a `Compressed` one. A tf_keras model that TFMOT
            trained for quantization becomes an int8 file.
        path: The file to write, ending in `.tflite`.
        sparse: Store kernels with many zeros without them (the converter's EXPERIMENTAL_SPARSITY), which makes the
            file itself smaller and not only what gzip leaves of it. For float32 only.
        batch_size: Rows that the file takes at once; by default any number. Some models can be converted for a fixed
            number only, such as those with recurrent layers: pass 1, or `"auto"`, which takes 1 for them, with a
            warning. `masslib.runtime` loads both alike, and its `predict` takes any number of rows.
        labels: Names of the outputs, such as `splits.classes`, stored inside the file as TFLite metadata
            (`labels.txt`), where the libraries for phones look for them.
        description: What the model is, for people; stored inside the file, too.
        example_inputs: Rows `(n, *input_shape)` of your data to check the file on; by default the calibration rows, or
            random ones that suit the model.

    Returns:
        The path of the file.

    Raises:
        ModuleNotFoundError: If the precision is int4 and the extra `int4` is not installed.
        TypeError: If `model` is neither, or the labels are no list of strings.
        ValueError: If the name does not end in `.tflite`; the model still carries TFMOT's training wrappers, or
            was quantized by Keras; the calibration rows are missing, of another shape or not finite; sparse is
            asked for in another precision; there is not one label per output; the converter cannot write the model; or
            the file answers differently from the model by more than its precision allows. Nothing is left behind then.

    Example:
        >>> import masslib, tempfile
        >>> model = masslib.models.mlp((4,), 3)
        >>> path = masslib.export.tflite(model, tempfile.mkdtemp() + "/mlp.tflite", labels=["cat", "dog", "emu"])
        >>> path.name, masslib.export.load(path).labels
        ('mlp.tflite', ['cat', 'dog', 'emu'])
    """
    path = Path(path)
    preflight.check_suffix(path, ".tflite", "a TFLite file")
    model, precision, calibration = preflight.unpacked(model)
    aware = preflight.learned_ranges(model)
    model = unmixed(model)
    precision = "int8" if aware else precision
    preflight.check_sparse(sparse, precision)
    if not aware and precision in _CALIBRATED:
        calibration = preflight.check_calibration(calibration, model)
    examples = preflight.check_examples(example_inputs, model)
    if batch_size != "auto":
        preflight.check_batch_size(batch_size)
    labels = metadata.check_labels(labels, model.outputs[0].shape[-1])
    with replacing(path) as temporary:
        content = _converted(model, batch_size, lambda it: _set_up(it, precision, calibration, aware, sparse))
        content = _described(content, model.name, description, labels)
        if precision == "int4":
            content = int4.quantized(content)
        temporary.write_bytes(metadata.with_labels(content, labels))
        seal(temporary)
        parity.check(temporary, model, precision, calibration if examples is None else examples)
    return path


def _converted(model: Any, batch_size: int | str | None, set_up: Callable[[Any], None]) -> bytes:
    """Convert a model; of an open batch that fails, say whether a fixed one would do, or take it."""
    if isinstance(batch_size, int):
        return _convert(model, batch_size, set_up)
    try:
        return _convert(model, None, set_up)
    except ValueError as error:
        if model.inputs[0].shape[0] is not None:
            raise
        try:
            content = _convert(model, 1, set_up)
        except ValueError:
            raise error from error.__cause__
        if batch_size != "auto":
            raise ValueError(
                f"{error}; pass batch_size=1, with which it can be written (`predict` of the loaded file takes any "
                "number of rows all the same)"
            ) from error
    warnings.warn(
        f"model {model.name!r} becomes a file of one row at a time, because TFLite cannot hold it for any number",
        stacklevel=3,
    )
    return content


def _convert(model: Any, batch_size: int | None, set_up: Callable[[Any], None]) -> bytes:
    # Through a SavedModel: from_keras_model prints a page of endpoints for a Keras 3 model, and traces every layer of a
    # tf_keras model for the sake of those who would load it again.
    with tempfile.TemporaryDirectory() as folder, inference.converting(model, "TensorFlow's converter"):
        if isinstance(model, keras.Model):
            savedmodel.export_graph(model, folder, batch_size)
        else:
            _save_legacy(model, folder, batch_size)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        set_up(converter)
        return converter.convert()


def _save_legacy(model: Any, folder: str, batch_size: int | None) -> None:
    """Write the inference of a tf_keras model as a SavedModel."""
    known = inference.signature(model, batch_size)
    spec = tf.TensorSpec(known.shape, known.dtype, name=known.name)
    module = tf.Module()
    module.weights = model.variables
    module.states = [state for layer in model.layers for state in getattr(layer, "random_states", ())]
    module.serve = tf.function(lambda x: {"output_0": tf.nest.flatten(model(x, training=False))[0]})
    tf.saved_model.save(module, folder, signatures=module.serve.get_concrete_function(spec))


def _set_up(converter: Any, precision: str, calibration: np.ndarray | None, aware: bool, sparse: bool) -> None:
    if sparse:
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    if precision not in ("float32", "int4"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    # The ranges of a quantization-aware model are in its graph; layers without any stay in float.
    if precision in _CALIBRATED and not aware:
        converter.representative_dataset = lambda: ([row[None]] for row in calibration)
        converter.target_spec.supported_ops = [_integer_operators(precision)]


def _integer_operators(precision: str) -> Any:
    if precision == "int8":
        return tf.lite.OpsSet.TFLITE_BUILTINS_INT8
    return tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8


def _described(content: bytes, name: str, description: str | None, labels: list[str] | None) -> bytes:
    """Add a blank seal, and what was told about the model, to a TFLite flatbuffer."""
    model = schema.unpacked(content)
    if description is not None or labels is not None:
        metadata.describe(model, name, description, labels)
    schema.add_metadata(model, "masslib_sha256", BLANK_SEAL)
    return schema.packed(model, len(content) + 4096)
