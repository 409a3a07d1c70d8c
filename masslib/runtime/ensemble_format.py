"""`.ensemble` files: several files that answer as one model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from masslib.runtime.ensembles import failed, read, suited
from masslib.runtime.signature import DEFAULT, Tensor, signature


class Members:
    """A backend of `Predictor` that asks others.

    Args:
        path: The file.
        threads: Of each member.
        load: Loads the file of a member.
    """

    format = "ensemble"
    labels = None

    def __init__(self, path: Path, threads: int, load: Callable[[Path], Any]):
        self.threads = threads
        self._rule, files = read(path)
        self._members: dict[str, Any] = {}
        for name, file in files.items():
            try:
                self._members[name] = load(file)
            except ModuleNotFoundError as error:
                raise ModuleNotFoundError(f"member {name!r} of {path}: {error}", name=error.name) from error
            except ValueError as error:
                raise ValueError(f"member {name!r} of {path} cannot be loaded: {error}") from error
            if len(self._members[name].outputs) != 1:
                several = ", ".join(self._members[name].outputs)
                raise ValueError(f"member {name!r} of {path} answers {several}; members have one output")
        # The others take the same rows, or these flattened.
        lead = max(self._members.values(), key=lambda it: max(len(tensor.shape) for tensor in it.inputs.values()))
        inputs = {name: Tensor((None, *tensor.shape[1:]), tensor.dtype) for name, tensor in lead.inputs.items()}
        # ONNX files need not tell the shapes of their answers.
        widths = [it.output_shape[-1] for it in self._members.values() if it.output_shape]
        width = 1 if 1 in widths else next((size for size in widths if size), None)
        self.signatures = {DEFAULT: signature(inputs, {"output_0": Tensor((None, width), np.dtype("float32"))}, path)}

    def run(self, name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        x = next(iter(arrays.values())) if len(arrays) == 1 else arrays
        answers = {}
        for member, predictor in self._members.items():
            try:
                answers[member] = predictor.predict(suited(x, predictor.input_shape))
            except (TypeError, ValueError) as error:
                raise failed(member, predictor.path.name, error) from error
        return {"output_0": self._rule.combined(answers)}
