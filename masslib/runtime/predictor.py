"""`Predictor`: one `predict` for every format."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from masslib._util.checks import check_counts
from masslib._util.messages import first_line
from masslib._util.structures import mapped
from masslib.runtime.arrays import converted
from masslib.runtime.signature import Tensor, arranged, packed


class _Loaded:
    """A loaded file, which the predictors of its signatures share."""

    def __init__(self, backend: Any):
        self.backend: Any = backend
        self.lock = threading.Lock()


class Predictor:
    """A loaded model: `predict` on NumPy arrays, the same for every format.

    Of a model with several inputs or outputs, the three structures below have the form of what `predict` takes and
    answers: a dict, list or tuple where the model has one.

    Attributes:
        path: Where it was loaded from.
        format: `"tflite"`, `"onnx"`, `"openvino"`, `"keras"` or `"saved_model"`.
        signature: Which function of the file this is; `"serving_default"` of a model that was exported alone.
        inputs: Name -> shape, the rows included, and type of every input.
        outputs: The same of the outputs.
        input_names: The names of the inputs, in the order of the structure.
        output_names: The names of the outputs.
        input_shape: Shape of one example, without the batch; None where any size will do. A structure of shapes.
        output_shape: Shape of one answer, without the batch. A structure of shapes.
        dtype: What the model takes: float32, or whole numbers, booleans, or `object` for strings. A structure of types.
        by_rows: Whether every input has its rows first. A signature with a position or another state beside its rows is
            run on all that it is given at once.
        batch: Rows that the file takes at once, for which `predict` pads what it is given; None for any number.
        threads: CPU threads; None for `.keras` files and SavedModels, which use TensorFlow's own setting.
        labels: Names of the outputs, if the file holds them, else None.
    """

    def __init__(self, path: Path, backend: Any, signature: str | None = None, loaded: _Loaded | None = None):
        self._loaded = loaded or _Loaded(backend)
        self.path = path
        self.format: str = backend.format
        self.threads: int | None = backend.threads
        self.labels: list[str] | None = backend.labels
        self.signature: str = signature or next(iter(backend.signatures))
        told = backend.signatures[self.signature]
        self.inputs: dict[str, Tensor] = told.inputs
        self.outputs: dict[str, Tensor] = told.outputs
        self.input_names, self.output_names = list(told.inputs), list(told.outputs)
        self._takes, self._answers = told.takes, told.answers
        self.input_shape: Any = mapped(lambda name: self.inputs[name].shape[1:], told.takes)
        self.output_shape: Any = mapped(lambda name: self.outputs[name].shape[1:], told.answers)
        self.dtype: Any = mapped(lambda name: self.inputs[name].dtype, told.takes)
        leading = {tensor.shape[:1] for tensor in self.inputs.values()}
        # A state, or a number such as a position, is no row.
        self.by_rows: bool = len(leading) == 1 and () not in leading
        self.batch: int | None = leading.pop()[0] if self.by_rows else None
        # Known beforehand, for a small network answers in a few microseconds.
        self._alone = told.takes if isinstance(told.takes, str) and self.by_rows else None
        self._wanted = {
            name: (len(tensor.shape), tensor.shape[1:] if self.by_rows else tensor.shape, tensor.dtype)
            for name, tensor in self.inputs.items()
        }

    @property
    def signatures(self) -> dict[str, Predictor]:
        """A predictor for every signature of the file, the default one first; they are closed together.

        Example:
            >>> import keras, masslib, tempfile
            >>> image, code = keras.Input((8,), name="image"), keras.Input((2,), name="code")
            >>> parts = {
            ...     "encode": keras.Model(image, keras.layers.Dense(2)(image)),
            ...     "decode": keras.Model(code, keras.layers.Dense(8)(code)),
            ... }
            >>> predictor = masslib.runtime.load(masslib.export.tflite(parts, tempfile.mkdtemp() + "/both.tflite"))
            >>> code = predictor.signatures["encode"].predict(np.zeros((5, 8)))
            >>> predictor.signatures["decode"].predict(code).shape
            (5, 8)
        """
        backend = self._backend()
        return {name: Predictor(self.path, backend, name, self._loaded) for name in backend.signatures}

    def predict(self, x: Any, *, batch_size: int = 256) -> Any:
        """Run the model.

        Args:
            x: Inputs `(n, *input_shape)`, in the range the model was trained on (float32 in [0, 1] for the
                images of masslib). A quantized file takes the same floats; scaling is done here. Whole numbers stay
                whole numbers if the model takes them. Several inputs come in the structure of the model, or as a dict
                by the names in `inputs`; keys that it does not know are passed over.
            batch_size: Rows given to the runtime at once, where the file does not say how many it takes.

        Returns:
            Outputs `(n, *output_shape)` in the structure of the model; float32, or what other type they have.

        Raises:
            TypeError: If `x` does not hold what the model takes: numbers or strings.
            ValueError: If structure or shape does not fit; `x` holds NaN, infinity, or whole numbers that the type of
                the model cannot hold; the runtime refuses; or the predictor is closed.
        """
        if self._alone is None or isinstance(x, dict):
            arrays = self.by_name(x)
            rows = self._rows(arrays)
        else:
            array = self._checked(self._alone, x)
            arrays, rows = {self._alone: array}, len(array)
        if type(batch_size) is not int or batch_size < 1:  # asking the numbers of other packages takes a microsecond
            check_counts(batch_size=(batch_size, 1))
        size = self.batch or batch_size
        with self._loaded.lock:
            if rows is None or 0 < rows <= size:
                return packed(self._run(arrays, rows), self._answers)
            parts = [
                self._run({name: array[i : i + size] for name, array in arrays.items()}, min(size, rows - i))
                for i in range(0, rows, size)
            ]
        return packed(self._joined(parts, rows), self._answers)

    def by_name(self, x: Any) -> dict[str, np.ndarray]:
        """The arrays of `x`, as `predict` takes it, by the names of the inputs, checked and in the types of the model.

        Raises:
            TypeError, ValueError: As `predict`.
        """
        return {name: self._checked(name, value) for name, value in arranged(x, self._takes).items()}

    def answers_by_name(self, answers: Any) -> dict[str, np.ndarray]:
        """What `predict` has answered, by the names of the outputs."""
        return arranged(answers, self._answers)

    def _checked(self, name: str, value: Any) -> np.ndarray:
        rank, shape, dtype = self._wanted[name]
        array = np.asarray(value)
        if array.ndim != rank or (array.shape[1:] if self.by_rows else array.shape) != shape:
            self._check_shape(name, array.shape)
        try:
            return converted(array, dtype)
        except (TypeError, ValueError) as error:
            if len(self.inputs) == 1:
                raise
            raise type(error)(f"input {name!r}: {error}") from error

    def _rows(self, arrays: dict[str, np.ndarray]) -> int | None:
        """How many rows all inputs have; None where they are not made of rows."""
        if not self.by_rows:
            return None
        rows = [len(array) for array in arrays.values()]
        if min(rows) != max(rows):
            raise ValueError(f"the inputs have different numbers of rows: {dict(zip(arrays, rows, strict=True))}")
        return rows[0]

    def _run(self, arrays: dict[str, np.ndarray], rows: int | None) -> dict[str, np.ndarray]:
        missing = self.batch - rows if self.batch is not None and rows is not None else 0
        if missing:
            arrays = {name: _padded(array, missing) for name, array in arrays.items()}
        backend = self._backend()
        try:
            answers = backend.run(self.signature, arrays)
        except MemoryError:
            raise
        except Exception as error:  # every runtime has its own
            shapes = _listed({name: array.shape for name, array in arrays.items()})
            raise ValueError(f"{self.path} cannot answer inputs of shape {shapes}: {first_line(error)}") from error
        return {name: answer[:rows] for name, answer in answers.items()} if missing else answers

    def _joined(self, parts: list[dict[str, np.ndarray]], rows: int) -> dict[str, np.ndarray]:
        if not parts:
            return {
                name: np.zeros((0, *(size or 0 for size in tensor.shape[1:])), tensor.dtype)
                for name, tensor in self.outputs.items()
            }
        joined = {}
        for name in parts[0]:
            if any(not part[name].ndim for part in parts) or sum(len(part[name]) for part in parts) != rows:
                raise ValueError(
                    f"output {name!r} of {self.path} does not have one row per row of the inputs, so the batches "
                    f"cannot be put together; pass batch_size={rows}"
                )
            joined[name] = np.concatenate([part[name] for part in parts])
        return joined

    def _check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        tensor = self.inputs[name]
        wanted = ("n", *tensor.shape[1:]) if self.by_rows else tensor.shape
        fits = len(shape) == len(wanted) and all(
            size in (None, "n", got) for size, got in zip(wanted, shape, strict=True)
        )
        if not fits:
            hint = "; add a batch dimension: x[None]" if self.by_rows and shape == tensor.shape[1:] else ""
            which = "" if len(self.inputs) == 1 else f" as input {name!r}"
            sizes = ", ".join("any" if size is None else str(size) for size in wanted)
            raise ValueError(f"expected an array of shape ({sizes}){which}, got {shape}{hint}")

    def _backend(self) -> Any:
        if self._loaded.backend is None:
            raise ValueError(f"the predictor of {self.path} was closed; load it again")
        return self._loaded.backend

    def close(self) -> None:
        """Free the model; `predict` raises afterwards."""
        with self._loaded.lock:
            self._loaded.backend = None

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Predictor({str(self.path)!r}, {self.input_shape} -> {self.output_shape})"


def _padded(array: np.ndarray, rows: int) -> np.ndarray:
    """Some rows more; of strings, empty ones."""
    more = np.full((rows, *array.shape[1:]), "", object) if array.dtype.kind == "O" else None
    return np.concatenate([array, np.zeros((rows, *array.shape[1:]), array.dtype) if more is None else more])


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
    return str(next(iter(shapes.values()))) if len(shapes) == 1 else str(shapes)
