"""TFLite files, run by LiteRT."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from masslib.runtime.shapes import only, without_batch
from masslib.runtime.trial import check_tflite

_ARCHIVE_END = 22  # bytes of the record that ends a zip archive without a comment


class LiteRT:
    format = "tflite"

    def __init__(self, path: Path, threads: int):
        check_tflite(path)
        from ai_edge_litert.interpreter import Interpreter

        self._path, self.threads = path, threads
        self.labels = stored_labels(path)
        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
            inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{path} cannot be loaded by LiteRT: {error}") from error
        self._input = only(inputs, "inputs", path)
        self._output = only(outputs, "outputs", path)
        signature = self._input["shape_signature"]
        self._fixed_batch = None if signature[0] < 0 else int(signature[0])
        self._batch = int(self._input["shape"][0])
        self.input_shape = without_batch(signature)
        self.output_shape = without_batch(self._output["shape_signature"])

    def run(self, x: np.ndarray) -> np.ndarray:
        if self._fixed_batch is None:
            return self._invoke(x)
        size, rows = self._fixed_batch, len(x)
        padded = np.concatenate([x, np.zeros((-rows % size, *x.shape[1:]), x.dtype)])
        parts = [self._invoke(padded[i : i + size]) for i in range(0, len(padded), size)]
        return np.concatenate(parts)[:rows]

    def _invoke(self, x: np.ndarray) -> np.ndarray:
        try:
            if len(x) != self._batch:
                self._interpreter.resize_tensor_input(self._input["index"], x.shape)
                self._interpreter.allocate_tensors()
                self._batch = len(x)
            self._interpreter.set_tensor(self._input["index"], _quantized(x, self._input))
            self._interpreter.invoke()
            return _dequantized(self._interpreter.get_tensor(self._output["index"]), self._output)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{self._path} cannot answer {len(x)} rows: {error}") from error


def stored_labels(path: Path) -> list[str] | None:
    """Read `labels.txt` of the archive that TFLite metadata appends to the file; None if there is none."""
    with open(path, "rb") as file:
        file.seek(-min(_ARCHIVE_END, path.stat().st_size), 2)
        if not file.read().startswith(b"PK\5\6"):
            return None
    import zipfile  # only for files that need it

    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read("labels.txt").decode().splitlines()
    except (KeyError, UnicodeDecodeError, zipfile.BadZipFile):  # files of others may hold something else
        return None


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
