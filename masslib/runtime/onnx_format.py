"""ONNX files, run by ONNX Runtime (the extra `onnx`)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from masslib._util.extras import needed_by
from masslib.runtime.shapes import only
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
        if entry.type not in _TYPES:
            raise ValueError(f"{path} takes {entry.type}; predict works on models that take floats")
        self._path, self._name, self._dtype, self.threads = path, entry.name, _TYPES[entry.type], threads
        self.input_shape, self.output_shape = _without_batch(entry.shape), _without_batch(answer.shape)
        labels = self._session.get_modelmeta().custom_metadata_map.get(LABELS)
        self.labels = json.loads(labels) if labels else None

    def run(self, x: np.ndarray) -> np.ndarray:
        try:
            (answer,) = self._session.run(None, {self._name: x.astype(self._dtype, copy=False)})
        except RuntimeError as error:
            raise ValueError(f"{self._path} cannot answer {len(x)} rows: {error}") from error
        return answer.astype("float32", copy=False)


_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}


def _without_batch(shape: list) -> tuple[int | None, ...]:
    """Open dimensions have names instead of sizes."""
    return tuple(size if isinstance(size, int) else None for size in shape[1:])
