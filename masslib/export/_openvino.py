"""Export to OpenVINO's IR, which is fast on x86 processors (the extra `openvino`)."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masslib._util import manifest
from masslib._util.extras import needed_by
from masslib._util.files import BLANK_SEAL, replacing, seal
from masslib._util.structures import flat
from masslib.export import _onnx as onnx_graph
from masslib.export import endpoints, inference, parity, preflight
from masslib.export.endpoints import Endpoint
from masslib.runtime.openvino_format import INFO
from masslib.runtime.signature import SIGNATURES

if TYPE_CHECKING:
    import keras

    from masslib.export._tflite import Exportable

_PRECISIONS = ("float32", "float16", "int8")
_COMPUTE = ("float32", "bfloat16")


def openvino(
    model: keras.Model | Exportable,
    path: str | os.PathLike[str],
    *,
    compute: str = "float32",
    labels: Sequence[str] | None = None,
    description: str | None = None,
    example_inputs: Any = None,
) -> Path:
    """Write a model as OpenVINO IR, and check the files against the model.

    There are two files, `<name>.xml` with the graph and `<name>.bin` with the weights. A plain Keras model becomes
    float32, by Keras' own export; one compressed with `Quantize("float16")` stores its weights in half the bytes; one
    with `Quantize("int8")` goes through an int8 ONNX file, so it needs the extra `onnx`, too. The graph carries its own
    SHA-256 and that of the weights, and the structure of the inputs and outputs, whose names are those of
    `masslib.export.onnx`.

    Args:
        model: A built Keras 3 model, or a `Compressed` one. A file holds one signature.
        path: The graph to write, ending in `.xml`.
        compute: `"bfloat16"` lets `masslib.runtime.load` compute in it, which is faster on processors that can;
            other programs read `compute` from the runtime information and set INFERENCE_PRECISION_HINT themselves.
        labels: Names of the values of the only output, stored in the runtime information.
        description: What the model is, for people; stored there, too.
        example_inputs: Rows `(n, *input_shape)` of your data to check the file on, as for `masslib.export.tflite`.

    Returns:
        The path of the `.xml` file.

    Raises:
        ModuleNotFoundError: If the extra is not installed.
        TypeError: If `model` is not a Keras 3 model.
        ValueError: As for `masslib.export.tflite`, and for precisions other than float32, float16 and int8.

    References:
        `keras.Model.export`; OpenVINO, "Precision control".
    """
    path = Path(path)
    preflight.check_suffix(path, ".xml", "an OpenVINO graph, whose weights lie beside it in a .bin,")
    if compute not in _COMPUTE:
        raise ValueError(f"compute={compute!r}: expected 'float32' or 'bfloat16'")
    source = onnx_graph.prepared(model, example_inputs, _PRECISIONS, "OpenVINO")
    endpoint, precision = source.endpoint, source.precision
    labels = endpoints.check_labels(labels, [endpoint])
    facts = {"compute": compute, SIGNATURES: json.dumps({endpoint.name: endpoint.told})}
    facts |= {} if description is None else {"description": description}
    if labels is not None:
        facts["labels"] = json.dumps(labels)
    allowed = "bfloat16" if compute == "bfloat16" and precision != "int8" else precision
    with (
        replacing(path) as graph,
        # Moved into place before the graph, whose checksum of the weights tells if the process died in between.
        replacing(path.with_suffix(".bin")) as weights,
        tempfile.TemporaryDirectory(dir=path.parent) as folder,
    ):
        written = Path(folder, "model.xml")
        _write(_converted(source), written, precision == "float16", facts)
        parity.check(written, [endpoint], allowed, {endpoint.name: source.examples})
        written.with_suffix(".bin").rename(weights)
        written.rename(graph)
    return path


def _converted(source: onnx_graph.Source) -> Any:
    """The model as an `openvino.Model`."""
    with needed_by("masslib.export.openvino"):
        import openvino as library
    endpoint = source.endpoint
    with (
        tempfile.TemporaryDirectory() as folder,
        inference.converting([endpoint], "Keras' export to OpenVINO"),
    ):
        if source.calibration is None:
            path = Path(folder, "model.xml")
            inference.exported(endpoint, str(path), format="openvino")
        else:
            path = Path(folder, "model.onnx")
            onnx_graph.write(source, path)
        graph = library.Core().read_model(path).clone()
        _name_outputs(graph, endpoint)
        return graph


def _name_outputs(graph: Any, endpoint: Endpoint) -> None:
    """Give the outputs their names; a tensor that is several of them, or an input as well, has all of theirs."""
    kept = set(endpoint.specs)
    for output, name in zip(graph.outputs, flat(endpoint.answers), strict=True):
        output.tensor.set_names({name} | (output.get_names() & kept))
        kept.add(name)


def _write(graph: Any, path: Path, half: bool, facts: dict[str, str]) -> None:
    import openvino as library

    for key, value in {**facts, "sha256": BLANK_SEAL.decode()}.items():
        graph.set_rt_info(value, [INFO, key])
    library.save_model(graph, path, compress_to_fp16=half)
    graph.set_rt_info(manifest.checksum(path.with_suffix(".bin")), [INFO, "weights_sha256"])
    library.save_model(graph, path, compress_to_fp16=half)
    seal(path)
