"""OpenVINO's IR, an `.xml` file with a `.bin` file beside it, run on the CPU (the extra `openvino`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from masslib._util import manifest
from masslib._util.extras import needed_by
from masslib.runtime.shapes import only
from masslib.runtime.trial import check

INFO = "masslib"
"""Section of the file's runtime information with `labels`, `compute` and the checksum of the weights."""

# Compiled programs that are kept, one per batch size: a fixed size runs faster than an open one.
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
        entry = only(self._model.inputs, "inputs", path).partial_shape
        answer = only(self._model.outputs, "outputs", path).partial_shape
        self._open = entry[0].is_dynamic
        self._path, self._shape, self.threads = path, entry, threads
        self.input_shape, self.output_shape = _without_batch(entry), _without_batch(answer)
        self.labels = json.loads(info["labels"]) if "labels" in info else None
        self._settings = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            # By itself OpenVINO computes in bfloat16 wherever the processor can.
            "INFERENCE_PRECISION_HINT": "bf16" if info.get("compute") == "bfloat16" else "f32",
        }
        self._requests: dict[int, Any] = {}

    def run(self, x: np.ndarray) -> np.ndarray:
        if self._open:
            return self._infer(self._request(len(x)), x)
        size, rows = self._shape[0].get_length(), len(x)
        padded = np.concatenate([x, np.zeros((-rows % size, *x.shape[1:]), x.dtype)])
        request = self._request(size)
        parts = [self._infer(request, padded[i : i + size]) for i in range(0, len(padded), size)]
        return np.concatenate(parts)[:rows]

    def _request(self, rows: int) -> Any:
        if rows not in self._requests:
            if self._open:
                self._shape[0] = rows
                self._model.reshape(self._shape)
            compiled = self._core.compile_model(self._model, "CPU", self._settings)
            while len(self._requests) >= _KEPT:
                del self._requests[next(iter(self._requests))]
            self._requests[rows] = compiled.create_infer_request()
        return self._requests[rows]

    def _infer(self, request: Any, x: np.ndarray) -> np.ndarray:
        try:
            request.set_input_tensor(self._tensor(x, shared_memory=True))
            request.infer()
        except RuntimeError as error:
            raise ValueError(f"{self._path} cannot answer {len(x)} rows: {error}") from error
        return request.get_output_tensor().data.astype("float32")


def _information(model: Any) -> dict[str, str]:
    if not model.has_rt_info([INFO]):
        return {}
    return {key: value.astype(str) for key, value in model.get_rt_info([INFO]).astype(dict).items()}


def _without_batch(shape: Any) -> tuple[int | None, ...]:
    return tuple(None if size.is_dynamic else size.get_length() for size in list(shape)[1:])
