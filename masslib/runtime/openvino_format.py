"""OpenVINO's IR, an `.xml` file with a `.bin` file beside it, run on the CPU (the extra `openvino`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from masslib._util import manifest
from masslib._util.extras import needed_by
from masslib.runtime.arrays import dtype_of, only, plain, sizes
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
        entry, answer = only(self._model.inputs, "inputs", path), only(self._model.outputs, "outputs", path)
        self.batch, *shape = _sizes(entry)
        self.input_shape, self.output_shape, self.threads = tuple(shape), _sizes(answer)[1:], threads
        self.dtype = dtype_of(entry.get_element_type().to_dtype(), "takes", path)
        self.output_dtype = plain(dtype_of(answer.get_element_type().to_dtype(), "answers", path))
        self._open = entry.partial_shape.is_dynamic
        self.labels = json.loads(info["labels"]) if "labels" in info else None
        self._settings = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            # By itself OpenVINO computes in bfloat16 wherever the processor can.
            "INFERENCE_PRECISION_HINT": "bf16" if info.get("compute") == "bfloat16" else "f32",
        }
        self._requests: dict[tuple[int, ...], Any] = {}

    def run(self, x: np.ndarray) -> np.ndarray:
        request = self._request(x.shape)
        request.set_input_tensor(self._tensor(x, shared_memory=True))
        request.infer()
        return request.get_output_tensor().data.astype(self.output_dtype)

    def _request(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._requests:
            if self._open:
                self._model.reshape(list(shape))
            compiled = self._core.compile_model(self._model, "CPU", self._settings)
            while len(self._requests) >= _KEPT:
                del self._requests[next(iter(self._requests))]
            self._requests[shape] = compiled.create_infer_request()
        return self._requests[shape]


def _information(model: Any) -> dict[str, str]:
    if not model.has_rt_info([INFO]):
        return {}
    return {key: value.astype(str) for key, value in model.get_rt_info([INFO]).astype(dict).items()}


def _sizes(end: Any) -> tuple[int | None, ...]:
    return sizes([None if size.is_dynamic else size.get_length() for size in end.partial_shape])
