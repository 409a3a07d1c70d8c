"""Export to ONNX, which many runtimes read (the extra `onnx`)."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from masslib._util.extras import needed_by
from masslib._util.files import BLANK_SEAL, replacing, seal
from masslib.export import inference, parity, preflight
from masslib.formats import metadata
from masslib.runtime.onnx_format import LABELS

if TYPE_CHECKING:
    from masslib.export._tflite import Exportable

_OPSET = 18
_PRECISIONS = ("float32", "int8")


def onnx(
    model: keras.Model | Exportable,
    path: str | os.PathLike[str],
    *,
    labels: Sequence[str] | None = None,
    description: str | None = None,
    example_inputs: np.ndarray | None = None,
) -> Path:
    """Write a model as an ONNX file, and check the file against the model.

    A plain Keras model becomes a float32 file, by Keras' own export; one compressed with `Quantize("int8")` an int8
    file, by the static quantization of ONNX Runtime (QDQ format, weights per channel). The file carries its own SHA-256
    in its metadata. It is meant for ONNX Runtime; any batch size.

    Args:
        model: A built Keras 3 model with one input and one output, or a `Compressed` one.
        path: The file to write, ending in `.onnx`.
        labels: Names of the outputs, stored in the metadata.
        description: What the model is, for people; stored in the file, too.
        example_inputs: Rows `(n, *input_shape)` of your data to check the file on, as for `masslib.export.tflite`.

    Returns:
        The path of the file.

    Raises:
        ModuleNotFoundError: If the extra `onnx` is not installed.
        TypeError: If `model` is not a Keras 3 model.
        ValueError: As for `masslib.export.tflite`, and for precisions other than float32 and int8.

    References:
        `keras.Model.export`; ONNX Runtime, "Quantize ONNX models".
    """
    path = Path(path)
    preflight.check_suffix(path, ".onnx", "an ONNX file")
    model, precision, calibration = preflight.plain_model(model, _PRECISIONS, "ONNX")
    examples = preflight.check_examples(example_inputs, model)
    labels = metadata.check_labels(labels, model.outputs[0].shape[-1])
    with replacing(path) as temporary:
        write(model, temporary, calibration, labels, description)
        seal(temporary)
        parity.check(temporary, model, precision, calibration if examples is None else examples)
    return path


def write(
    model: keras.Model,
    path: Path,
    calibration: np.ndarray | None = None,
    labels: list[str] | None = None,
    description: str | None = None,
) -> None:
    """Write an ONNX file with a blank seal, quantized if there are rows to calibrate it with."""
    with needed_by("masslib.export.onnx"):
        import onnx as library
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401  Keras needs it and says so less plainly
    with inference.converting(model, "Keras' export to ONNX"):
        signature = [inference.signature(model)]
        inference.Inference(model).export(
            str(path), format="onnx", verbose=False, input_signature=signature, opset_version=_OPSET
        )
        if calibration is not None:
            _quantize(path, calibration)
    graph = library.load(path)
    facts = {"masslib_sha256": BLANK_SEAL.decode()}
    if labels is not None:
        facts[LABELS] = json.dumps(labels)
    library.helper.set_model_props(graph, facts)
    graph.doc_string = description or ""
    library.save(graph, path)


def _quantize(path: Path, rows: np.ndarray) -> None:
    """Replace a float file by its int8 form."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder, "prepared.onnx")
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(path),
            _reader(prepared, rows),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
        )


def _reader(path: Path, rows: np.ndarray) -> Any:
    """The rows as ONNX Runtime wants to read them."""
    import onnx as library
    from onnxruntime.quantization import CalibrationDataReader

    (entry,) = library.load(path).graph.input

    class Rows(CalibrationDataReader):
        def __init__(self) -> None:
            self._rows: Iterator[dict[str, np.ndarray]] = ({entry.name: row[None]} for row in rows)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._rows, None)

    return Rows()
