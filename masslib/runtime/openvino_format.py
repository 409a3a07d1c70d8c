"""OpenVINO's IR, an `.xml` file with a `.bin` file beside it, run on the CPU (the extra `openvino`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from masslib._util import manifest
from masslib._util.extras import needed_by
from masslib._util.structures import decoded, flat
from masslib.runtime.arrays import dtype_of, plain, sizes
from masslib.runtime.signature import DEFAULT, SIGNATURES, Tensor, signature, stored
from masslib.runtime.trial import check

INFO = "masslib"
"""Section of the file's runtime information with `labels`, `compute` and the checksum of the weights."""

# Compiled programs that are kept, one per shape: a fixed shape runs faster than an open one.
_KEPT = 4
_TRIAL = """
import openvino
openvino.Core().compile_model(sys.argv[1], "CPU")
"""


class OpenVINO:
    format = "openvino"

    def __init__(self, path: Path, threads: int):
        with needed_by(str(path)):
            import openvino
        check(path, _TRIAL, "OpenVINO")
        weights = path.with_suffix(".bin")
        if not weights.is_file():
            raise ValueError(f"{weights}, which holds the weights of {path}, is missing; copy both files")
        self._core, self._tensor = openvino.Core(), openvino.Tensor
        wrong = f"{weights} is damaged or not the one of {path}; make or copy both again"
        try:
            self._model = self._core.read_model(path)
        except RuntimeError as error:
            raise ValueError(wrong) from error
        info = _information(self._model)
        if "weights_sha256" in info and manifest.checksum(weights) != info["weights_sha256"]:
            raise ValueError(wrong)
        self.threads = threads
        told = stored(info.get(SIGNATURES), path)
        name = next(iter(told), DEFAULT)
        inputs = _tensors(self._model.inputs, told, "inputs", path)
        outputs = _tensors(self._model.outputs, told, "outputs", path)
        self.signatures = {name: signature(inputs, outputs, path, told.get(name))}
        self._open = any(end.partial_shape.is_dynamic for end in self._model.inputs)
        self.labels = json.loads(info["labels"]) if "labels" in info else None
        self._settings = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            # By itself OpenVINO computes in bfloat16 wherever the processor can.
            "INFERENCE_PRECISION_HINT": "bf16" if info.get("compute") == "bfloat16" else "f32",
        }
        self._requests: dict[tuple[tuple[int, ...], ...], Any] = {}

    def run(self, name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        request = self._request({key: x.shape for key, x in arrays.items()})
        for key, x in arrays.items():
            request.set_tensor(key, self._tensor(x, shared_memory=x.ndim > 0))
        request.infer()
        return {
            key: request.get_tensor(key).data.astype(tensor.dtype)
            for key, tensor in self.signatures[name].outputs.items()
        }

    def _request(self, shapes: dict[str, tuple[int, ...]]) -> Any:
        key = tuple(shapes.values())
        if key not in self._requests:
            if self._open:
                self._model.reshape({name: list(shape) for name, shape in shapes.items()})
            compiled = self._core.compile_model(self._model, "CPU", self._settings)
            while len(self._requests) >= _KEPT:
                del self._requests[next(iter(self._requests))]
            self._requests[key] = compiled.create_infer_request()
        return self._requests[key]


def _tensors(ends: list[Any], told: dict[str, Any], side: str, path: Path) -> dict[str, Tensor]:
    """Inputs or outputs, of whose names one is taken that the file tells of, for a tensor may be both."""
    known = {name for entry in told.values() for name in flat(decoded(entry.get(side)))}
    found: dict[str, Tensor] = {}
    for end in ends:
        names = sorted(end.get_names(), key=lambda name: (name not in known or name in found, name))
        dtype = dtype_of(end.get_element_type().to_dtype(), "takes" if side == "inputs" else "answers", path)
        found[names[0]] = Tensor(_sizes(end), plain(dtype) if side == "outputs" else dtype)
    return found


def _information(model: Any) -> dict[str, str]:
    if not model.has_rt_info([INFO]):
        return {}
    return {key: value.astype(str) for key, value in model.get_rt_info([INFO]).astype(dict).items()}


def _sizes(end: Any) -> tuple[int | None, ...]:
    return sizes([None if size.is_dynamic else size.get_length() for size in end.partial_shape])
