"""Load and run any exported file; TensorFlow is imported only for the formats that need it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from masslib.files import sealed


def load(path: str | os.PathLike[str], *, threads: int = 1) -> Predictor:
    """Load an exported model, whatever its format, behind one `predict`.

    Args:
        path: A `.tflite` file (run by LiteRT), a `.keras` file, or the folder of a SavedModel.
        threads: CPU threads for LiteRT; the other formats use TensorFlow's own setting.

    Returns:
        A `Predictor`, also usable as a context manager.

    Raises:
        FileNotFoundError: If nothing lies at `path`.
        ValueError: If the format is unknown, or the file is damaged.

    Example:
        >>> import masslib, tempfile
        >>> path = tempfile.mkdtemp() + "/mlp.tflite"
        >>> model = masslib.models.mlp((4,), 3)
        >>> _ = masslib.export.tflite(model, path)
        >>> with masslib.runtime.load(path) as predictor:
        ...     predictor.predict(np.zeros((5, 4), "float32")).shape
        (5, 3)
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; export a model there first")
    if not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads={threads!r}: expected a positive integer")
    if (path / "saved_model.pb").exists():
        return Predictor(path, _SavedModel(path))
    if path.is_file() and path.suffix == ".tflite":
        return Predictor(path, _LiteRT(path, threads))
    if path.is_file() and path.suffix == ".keras":
        return Predictor(path, _Keras(path))
    raise ValueError(f"{path}: expected a .tflite file, a .keras file or the folder of a SavedModel")


class Predictor:
    """A loaded model: `predict` on NumPy arrays, the same for every format.

    Attributes:
        path: Where it was loaded from.
        format: `"tflite"`, `"keras"` or `"saved_model"`.
        input_shape: Shape of one example, without the batch.
        output_shape: Shape of one answer, without the batch.
        threads: CPU threads of LiteRT; None for the other formats, which use TensorFlow's own setting.
    """

    def __init__(self, path: Path, backend: Any):
        self.path = path
        self.format: str = backend.format
        self.input_shape: tuple[int | None, ...] = backend.input_shape
        self.output_shape: tuple[int | None, ...] = backend.output_shape
        self.threads: int | None = backend.threads
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
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size={batch_size!r}: expected a positive integer")
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


class _LiteRT:
    format = "tflite"

    def __init__(self, path: Path, threads: int):
        _check_tflite(path)
        from ai_edge_litert.interpreter import Interpreter

        self.threads = threads
        self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = _only(self._interpreter.get_input_details(), "inputs", path)
        self._output = _only(self._interpreter.get_output_details(), "outputs", path)
        signature = self._input["shape_signature"]
        self._fixed_batch = None if signature[0] < 0 else int(signature[0])
        self._batch = int(self._input["shape"][0])
        self.input_shape = _without_batch(signature)
        self.output_shape = _without_batch(self._output["shape_signature"])

    def run(self, x: np.ndarray) -> np.ndarray:
        if self._fixed_batch is None:
            return self._invoke(x)
        size, rows = self._fixed_batch, len(x)
        padded = np.concatenate([x, np.zeros((-rows % size, *x.shape[1:]), x.dtype)])
        parts = [self._invoke(padded[i : i + size]) for i in range(0, len(padded), size)]
        return np.concatenate(parts)[:rows]

    def _invoke(self, x: np.ndarray) -> np.ndarray:
        if len(x) != self._batch:
            self._interpreter.resize_tensor_input(self._input["index"], x.shape)
            self._interpreter.allocate_tensors()
            self._batch = len(x)
        self._interpreter.set_tensor(self._input["index"], _quantized(x, self._input))
        self._interpreter.invoke()
        return _dequantized(self._interpreter.get_tensor(self._output["index"]), self._output)


class _SavedModel:
    format = "saved_model"
    threads = None

    def __init__(self, path: Path):
        import tensorflow as tf

        self._model = tf.saved_model.load(str(path))
        if "serving_default" not in self._model.signatures:
            raise ValueError(f"{path} has no 'serving_default' signature; it has {list(self._model.signatures)}")
        self._call = self._model.signatures["serving_default"]
        inputs = list(self._call.structured_input_signature[1].items())
        self._name, spec = _only(inputs, "inputs", path)
        self._output, answer = _only(list(self._call.structured_outputs.items()), "outputs", path)
        self._dtype = spec.dtype
        self.input_shape = tuple(spec.shape[1:])
        self.output_shape = tuple(answer.shape[1:])

    def run(self, x: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        return self._call(**{self._name: tf.constant(x, self._dtype)})[self._output].numpy()


class _Keras:
    format = "keras"
    threads = None

    def __init__(self, path: Path):
        import keras

        self._model = keras.saving.load_model(path, compile=False)
        _only(self._model.inputs, "inputs", path)
        _only(self._model.outputs, "outputs", path)
        self.input_shape = tuple(self._model.inputs[0].shape[1:])
        self.output_shape = tuple(self._model.outputs[0].shape[1:])

    def run(self, x: np.ndarray) -> np.ndarray:
        return self._model(x, training=False).numpy()


# LiteRT can abort the whole process on damaged bytes, so a file without a seal is tried in a child first.
_TRIAL = (
    "import sys; from ai_edge_litert.interpreter import Interpreter; "
    "interpreter = Interpreter(model_path=sys.argv[1]); "
    "interpreter.allocate_tensors(); interpreter.invoke()"
)
_TRIAL_SECONDS = 120


def _check_tflite(path: Path) -> None:
    with open(path, "rb") as file:
        head = file.read(8)
    if head[4:8] != b"TFL3":
        raise ValueError(f"{path} is not a TFLite file: it does not carry the identifier 'TFL3' at byte 4")
    if sealed(path):
        return
    try:
        trial = subprocess.run(
            [sys.executable, "-c", _TRIAL, str(path)], capture_output=True, text=True, timeout=_TRIAL_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"{path} did not run within {_TRIAL_SECONDS} s in a trial process") from None
    if trial.returncode:
        reason = (trial.stderr.strip().splitlines() or [f"exit code {trial.returncode}"])[-1]
        raise ValueError(f"{path} is damaged or needs operators that LiteRT lacks: {reason}")


def _only(items: Any, what: str, path: Path) -> Any:
    if len(items) != 1:
        raise ValueError(f"{path} has {len(items)} {what}; predict works on models with one")
    return items[0]


def _without_batch(shape: np.ndarray) -> tuple[int | None, ...]:
    return tuple(None if size < 0 else int(size) for size in shape[1:])


def _quantized(x: np.ndarray, detail: dict) -> np.ndarray:
    dtype = np.dtype(detail["dtype"])
    if dtype.kind == "f":
        return x.astype(dtype, copy=False)
    scale, zero = detail["quantization"]
    if scale == 0:
        return x.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(x / scale) + zero, limits.min, limits.max).astype(dtype)


def _dequantized(y: np.ndarray, detail: dict) -> np.ndarray:
    if y.dtype.kind == "f":
        return y.astype("float32", copy=False)
    scale, zero = detail["quantization"]
    return (y.astype("float32") - zero) * (scale or 1)
