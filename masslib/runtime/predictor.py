"""`Predictor`: one `predict` for every format."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from masslib._util.checks import check_counts
from masslib._util.messages import first_line
from masslib.runtime.arrays import converted


class Predictor:
    """A loaded model: `predict` on NumPy arrays, the same for every format.

    Attributes:
        path: Where it was loaded from.
        format: `"tflite"`, `"onnx"`, `"openvino"`, `"keras"` or `"saved_model"`.
        input_shape: Shape of one example, without the batch; None where any size will do.
        output_shape: Shape of one answer, without the batch.
        dtype: What the model takes: float32, or a type of whole numbers, such as those of words.
        batch: Rows that the file takes at once, for which `predict` pads what it is given; None for any number.
        threads: CPU threads; None for `.keras` files and SavedModels, which use TensorFlow's own setting.
        labels: Names of the outputs, if the file holds them, else None.
    """

    def __init__(self, path: Path, backend: Any):
        self.path = path
        self.format: str = backend.format
        self.input_shape: tuple[int | None, ...] = backend.input_shape
        self.output_shape: tuple[int | None, ...] = backend.output_shape
        self.dtype: np.dtype = backend.dtype
        self.batch: int | None = backend.batch
        self.threads: int | None = backend.threads
        self.labels: list[str] | None = backend.labels
        self._backend = backend
        self._lock = threading.Lock()

    def predict(self, x: Any, *, batch_size: int = 256) -> np.ndarray:
        """Run the model.

        Args:
            x: Inputs `(n, *input_shape)`, in the range the model was trained on (float32 in [0, 1] for the
                images of masslib). A quantized file takes the same floats; scaling is done here. Whole numbers stay
                whole numbers if the model takes them.
            batch_size: Rows given to the runtime at once, where the file does not say how many it takes.

        Returns:
            Outputs `(n, *output_shape)`, float32, or whole numbers where the model answers these.

        Raises:
            TypeError: If `x` does not hold numbers.
            ValueError: If the shape does not fit; `x` holds NaN, infinity, or whole numbers that the type of the model
                cannot hold; the runtime refuses; or the predictor is closed.
        """
        x = np.asarray(x)
        if not x.ndim or x.shape[1:] != self.input_shape:
            self._check_shape(x.shape)
        x = converted(x, self.dtype)
        check_counts(batch_size=(batch_size, 1))
        size = self.batch or batch_size
        with self._lock:
            if self._backend is None:
                raise ValueError(f"the predictor of {self.path} was closed; load it again")
            if 0 < len(x) <= size:
                return self._run(x)
            parts = [self._run(x[i : i + size]) for i in range(0, len(x), size)]
            nothing = np.zeros((0, *(size or 0 for size in self.output_shape)), self._backend.output_dtype)
        return np.concatenate(parts) if parts else nothing

    def _run(self, x: np.ndarray) -> np.ndarray:
        rows = len(x)
        if self.batch and rows < self.batch:
            x = np.concatenate([x, np.zeros((self.batch - rows, *x.shape[1:]), x.dtype)])
        try:
            return self._backend.run(x)[:rows]
        except MemoryError:
            raise
        except Exception as error:  # every runtime has its own
            raise ValueError(f"{self.path} cannot answer inputs of shape {x.shape}: {first_line(error)}") from error

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
