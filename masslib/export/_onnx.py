"""Export to ONNX, which many runtimes read (the extra `onnx`)."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from masslib._util.extras import needed_by
from masslib._util.files import BLANK_SEAL, replacing, seal
from masslib._util.structures import flat
from masslib.export import endpoints, inference, parity, preflight, rows
from masslib.export.endpoints import Endpoint
from masslib.graph.precision import unmixed
from masslib.runtime.onnx_format import LABELS
from masslib.runtime.signature import DEFAULT, SIGNATURES

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
    example_inputs: Any = None,
) -> Path:
    """Write a model as an ONNX file, and check the file against the model.

    A plain Keras model becomes a float32 file, by Keras' own export; one compressed with `Quantize("int8")` an int8
    file, by the static quantization of ONNX Runtime (QDQ format, weights per channel). The file carries its own SHA-256
    in its metadata, and the structure of the inputs and outputs, whose names are those of
    `masslib.export.saved_model`; where an output would be called as an input is, `_output` is added to its name. It is
    meant for ONNX Runtime; any batch size.

    Args:
        model: A built Keras 3 model, or a `Compressed` one. A file holds one signature.
        path: The file to write, ending in `.onnx`.
        labels: Names of the values of the only output, stored in the metadata.
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
    source = prepared(model, example_inputs, _PRECISIONS, "ONNX")
    labels = endpoints.check_labels(labels, [source.endpoint])
    with replacing(path) as temporary:
        write(source, temporary, labels, description)
        seal(temporary)
        parity.check(temporary, [source.endpoint], source.precision, {source.endpoint.name: source.examples})
    return path


@dataclass(frozen=True)
class Source:
    """What a file is made from, for formats that Keras exports to."""

    endpoint: Endpoint
    precision: str
    calibration: dict[str, np.ndarray] | None
    examples: dict[str, np.ndarray] | None


def prepared(model: Any, example_inputs: Any, precisions: tuple[str, ...], name: str) -> Source:
    """Check a model and its rows.

    Raises:
        TypeError: If it is no Keras model.
        ValueError: If the format cannot hold it.
    """
    network, precision, kept = preflight.unpacked(endpoints.only(model, name))
    if not preflight.is_keras(network):
        preflight.check_keras(network)
    network = endpoints.seen(DEFAULT, network, example_inputs)
    preflight.check_plain(network, precision, precisions, name)
    endpoint = endpoints.endpoint(DEFAULT, unmixed(network), apart=True)
    calibration = rows.calibration(kept, endpoint) if precision == "int8" else None
    return Source(endpoint, precision, calibration, rows.examples(example_inputs, endpoint) or calibration)


def write(source: Source, path: Path, labels: list[str] | None = None, description: str | None = None) -> None:
    """Write an ONNX file with a blank seal, quantized if there are rows to calibrate it with."""
    with needed_by("masslib.export.onnx"):
        import onnx as library
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401  Keras needs it and says so less plainly
    endpoint = source.endpoint
    with inference.converting([endpoint], "Keras' export to ONNX"):
        inference.exported(endpoint, str(path), format="onnx", opset_version=_OPSET)
        graph = library.load(path)
        _rename_outputs(graph.graph, flat(endpoint.answers))
        library.save(graph, path)
        if source.calibration is not None:
            _quantize(path, source.calibration)
    graph = library.load(path)
    facts = {"masslib_sha256": BLANK_SEAL.decode(), SIGNATURES: json.dumps({endpoint.name: endpoint.told})}
    if labels is not None:
        facts[LABELS] = json.dumps(labels)
    library.helper.set_model_props(graph, facts)
    graph.doc_string = description or ""
    library.save(graph, path)


def _rename_outputs(graph: Any, names: list[str]) -> None:
    """Give the outputs, which tf2onnx numbers in their order, the names that they are known by."""
    new = {output.name: name for output, name in zip(graph.output, names, strict=True)}
    # What is called so inside already makes room.
    inner = {edge for node in graph.node for edge in node.output} & set(names)
    new |= {edge: f"{edge}/inner" for edge in inner if edge not in new}
    for output in graph.output:
        output.name = new[output.name]
    for node in graph.node:
        for edges in (node.input, node.output):
            edges[:] = [new.get(edge, edge) for edge in edges]


def _quantize(path: Path, rows: dict[str, np.ndarray]) -> None:
    """Replace a float file by its int8 form."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder, "prepared.onnx")
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(path),
            _reader(rows),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            # Processors without VNNI add products of 8 bits in 16, which overflow; those of 7 bits do not.
            reduce_range=True,
        )


def _reader(rows: dict[str, np.ndarray]) -> Any:
    """The rows as ONNX Runtime wants to read them."""
    from onnxruntime.quantization import CalibrationDataReader

    count = len(next(iter(rows.values())))

    class Rows(CalibrationDataReader):
        def __init__(self) -> None:
            self._rows: Iterator[dict[str, np.ndarray]] = (
                {name: array[row : row + 1] for name, array in rows.items()} for row in range(count)
            )

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._rows, None)

    return Rows()
