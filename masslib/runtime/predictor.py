"""`Predictor`: one `predict` for every format."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np

from masslib.checks import check_counts


class Predictor:
    """A loaded model: `predict` on NumPy arrays, the same for every format.

    Attributes:
        path: Where it was loaded from.
        format: `"tflite"`, `"onnx"`, `"openvino"`, `"keras"` or `"saved_model"`.
        input_shape: Shape of one example, without the batch.
        output_shape: Shape of one answer, without the batch.
        threads: CPU threads; None for `.keras` files and SavedModels, which use TensorFlow's own setting.
        labels: Names of the outputs, if the file holds them, else None.
    """

    def __init__(self, path: Path, backend: Any):
        self.path = path
        self.format: str = backend.format
        self.input_shape: tuple[int | None, ...] = backend.input_shape
        self.output_shape: tuple[int | None, ...] = backend.output_shape
        self.threads: int | None = backend.threads
        self.labels: list[str] | None = backend.labels
        self._backend = backend
        self._lock = threading.Lock()

    def predict(self, x: Any, *, batch_size: int = 256) -> np.ndarray:
        """Run the model.

        Args:
            x: Inputs `(n, *input_shape)`, in the range the model was trained on (float32 in [0, 1] for the
                images of masslib). A quantized file takes the same floats; scaling is done here.
            batch_size: Rows given to the runtime at once.

        Returns:
            Outputs `(n, *output_shape)`, float32.

        Raises:
            TypeError: If `x` does not hold numbers.
            ValueError: If the shape does not fit, `x` holds NaN or infinity, or the predictor is closed.
        """
        x = self._checked(x)
        check_counts(batch_size=(batch_size, 1))
        with self._lock:
            if self._backend is None:
                raise ValueError(f"the predictor of {self.path} was closed; load it again")
            if 0 < len(x) <= batch_size:
                return self._backend.run(x)
            parts = [self._backend.run(x[i : i + batch_size]) for i in range(0, len(x), batch_size)]
        return np.concatenate(parts) if parts else np.zeros((0, *self.output_shape), "float32")

    def _checked(self, x: Any) -> np.ndarray:
        x = np.asarray(x)
        if x.dtype.kind not in "fiub":
            raise TypeError(f"expected an array of numbers, got dtype {x.dtype}")
        if not x.ndim or x.shape[1:] != self.input_shape:
            self._check_shape(x.shape)
        x = np.ascontiguousarray(x, np.float32)
        # The sum of squares takes half the time; it is finite only if all of x is, but may overflow when x is finite.
        if not (math.isfinite(np.vdot(x, x)) or np.isfinite(x).all()):
            raise ValueError("the input holds NaN or infinity; clean it first")
        return x

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        wanted = ("n", *("any" if size is None else size for size in self.input_shape))
        fits = len(shape) == len(wanted) and all(
            size in (None, got) for size, got in zip(self.input_shape, shape[1:], strict=True)
        )
        if not fits:
            hint = "; add a batch dimension: x[None]" if shape == self.input_shape else ""
            raise ValueError(f"expected an array of shape ({', '.join(map(str, wanted))}), got {shape}{hint}")

    def close(self) -> None:
        """Free the model; `predict` raises afterwards."""
        with self._lock:
            self._backend = None

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Predictor({str(self.path)!r}, {self.input_shape} -> {self.output_shape})"
