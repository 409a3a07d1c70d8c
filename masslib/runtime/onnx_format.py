"""ONNX files, run by ONNX Runtime (the extra `onnx`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from masslib._util.extras import needed_by
from masslib.runtime.arrays import dtype_of, plain, sizes
from masslib.runtime.signature import DEFAULT, SIGNATURES, Tensor, signature, stored
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
        self.threads = threads
        facts = self._session.get_modelmeta().custom_metadata_map
        self.labels = json.loads(facts[LABELS]) if facts.get(LABELS) else None
        inputs = _tensors(self._session.get_inputs(), "takes", path)
        outputs = _tensors(self._session.get_outputs(), "answers", path)
        told = stored(facts.get(SIGNATURES), path)
        name = next(iter(told), DEFAULT)
        self.signatures = {name: signature(inputs, outputs, path, told.get(name))}

    def run(self, name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = self.signatures[name].outputs
        answers = self._session.run(list(outputs), arrays)
        return {
            key: np.asarray(answer).astype(outputs[key].dtype, copy=False)
            for key, answer in zip(outputs, answers, strict=True)
        }


def _tensors(ends: list[Any], what: str, path: Path) -> dict[str, Tensor]:
    found = {}
    for end in ends:
        dtype = dtype_of(_numpy_name(end.type), what, path)
        found[end.name] = Tensor(sizes(end.shape), plain(dtype) if what == "answers" else dtype)
    return found


def _numpy_name(kind: str) -> str:
    """`float32` of `tensor(float)`."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)
