"""ONNX files, run by ONNX Runtime (the extra `onnx`)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from masslib._util.extras import needed_by
from masslib.runtime.arrays import dtype_of, only, plain, sizes
from masslib.runtime.trial import check

LABELS = "masslib_labels"
"""Key of the labels among the metadata of the file."""

_TRIAL = """
import onnxruntime
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
"""


class ONNX:
    format = "onnx"

    def __init__(self, path: Path, threads: int):
        with needed_by(str(path)):
            import onnxruntime
        check(path, _TRIAL, "ONNX Runtime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors only
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        entry = only(self._session.get_inputs(), "inputs", path)
        answer = only(self._session.get_outputs(), "outputs", path)
        self._name, self.threads = entry.name, threads
        self.batch, *shape = sizes(entry.shape)
        self.input_shape, self.output_shape = tuple(shape), sizes(answer.shape)[1:]
        self.dtype = dtype_of(_numpy_name(entry.type), "takes", path)
        self.output_dtype = plain(dtype_of(_numpy_name(answer.type), "answers", path))
        labels = self._session.get_modelmeta().custom_metadata_map.get(LABELS)
        self.labels = json.loads(labels) if labels else None

    def run(self, x: np.ndarray) -> np.ndarray:
        (answer,) = self._session.run(None, {self._name: x})
        return answer.astype(self.output_dtype, copy=False)


def _numpy_name(kind: str) -> str:
    """`float32` of `tensor(float)`."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)
