"""TFLite files, run by LiteRT."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from masslib.runtime.arrays import dtype_of, only, plain, sizes
from masslib.runtime.unpacking import checked

_ARCHIVE_END = 22  # bytes of the record that ends a zip archive without a comment


class LiteRT:
    format = "tflite"

    def __init__(self, path: Path, threads: int):
        content = checked(path)
        from ai_edge_litert.interpreter import Interpreter

        self._path, self.threads = path, threads
        self.labels = stored_labels(path, content)
        try:
            model = {"model_path": str(path)} if content is None else {"model_content": content}
            self._interpreter = Interpreter(**model, num_threads=threads)
            inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
            self._input, self._output = only(inputs, "inputs", path), only(outputs, "outputs", path)
            self.batch, *shape = sizes(self._input["shape_signature"])
            self._shape: tuple[int, ...] | None = None
            if None not in shape:  # an open size stands at 1 so far, with which not every model can be set up
                self._interpreter.allocate_tensors()
                self._shape = tuple(self._input["shape"])
        except RuntimeError as error:
            raise ValueError(f"{path} cannot be loaded by LiteRT: {error}") from error
        self.input_shape, self.output_shape = tuple(shape), sizes(self._output["shape_signature"])[1:]
        self.dtype = _unquantized(self._input, "takes", path)
        self.output_dtype = plain(_unquantized(self._output, "answers", path))

    def run(self, x: np.ndarray) -> np.ndarray:
        if x.shape != self._shape:
            self._shape = None  # unknown again if one of the next two fails
            self._interpreter.resize_tensor_input(self._input["index"], x.shape)
            self._interpreter.allocate_tensors()
            self._shape = x.shape
        self._interpreter.set_tensor(self._input["index"], _quantized(x, self._input))
        self._interpreter.invoke()
        return _dequantized(self._interpreter.get_tensor(self._output["index"]), self._output)


def stored_labels(path: Path, content: bytes | None = None) -> list[str] | None:
    """Read `labels.txt` of the archive that TFLite metadata appends to the file; None if there is none.

    Args:
        path: The file.
        content: Its bytes, of one that was packed.
    """
    with open(path, "rb") if content is None else io.BytesIO(content) as file:
        file.seek(-min(_ARCHIVE_END, file.seek(0, 2)), 2)
        if not file.read().startswith(b"PK\5\6"):
            return None
    import zipfile  # only for files that need it

    try:
        with zipfile.ZipFile(path if content is None else io.BytesIO(content)) as archive:
            return archive.read("labels.txt").decode().splitlines()
    except (KeyError, UnicodeDecodeError, zipfile.BadZipFile):  # files of others may hold something else
        return None


def _unquantized(detail: dict, what: str, path: Path) -> np.dtype:
    """The type of an input or output without the quantization, which is done here."""
    dtype = dtype_of(detail["dtype"], what, path)
    return np.dtype("float32") if detail["quantization"][0] else dtype


def _quantized(x: np.ndarray, detail: dict) -> np.ndarray:
    scale, zero = detail["quantization"]
    if not scale:
        return x
    limits = np.iinfo(detail["dtype"])
    return np.clip(np.rint(x / scale) + zero, limits.min, limits.max).astype(detail["dtype"])


def _dequantized(y: np.ndarray, detail: dict) -> np.ndarray:
    scale, zero = detail["quantization"]
    if not scale:
        return y.astype("float32", copy=False) if y.dtype.kind == "f" else y
    return (y.astype("float32") - zero) * scale
