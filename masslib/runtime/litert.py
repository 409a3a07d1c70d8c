"""TFLite files, run by LiteRT."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from masslib.runtime.arrays import dtype_of, plain, sizes
from masslib.runtime.signature import DEFAULT, SIGNATURES, Tensor, ordered, signature, stored
from masslib.runtime.unpacking import checked

LABELS, STRUCTURES = "labels.txt", f"{SIGNATURES}.json"
"""Files of the archive that may follow the model in its file."""

_ARCHIVE_END = 22  # bytes of the record that ends a zip archive without a comment


class LiteRT:
    format = "tflite"

    def __init__(self, path: Path, threads: int):
        content = checked(path)
        from ai_edge_litert.interpreter import Interpreter

        self.threads = threads
        texts = archived(path, content)
        self.labels = texts[LABELS].splitlines() if LABELS in texts else None
        told = stored(texts.get(STRUCTURES), path)
        try:
            model = {"model_path": str(path)} if content is None else {"model_content": content}
            interpreter = Interpreter(**model, num_threads=threads)
            self._graphs = _graphs(interpreter, told, path)
            self.signatures = {
                name: signature(
                    _tensors(graph.inputs, "takes", path),
                    _tensors(graph.outputs, "answers", path),
                    path,
                    told.get(name),
                )
                for name, graph in self._graphs.items()
            }
            for graph in self._graphs.values():
                graph.allocate()
        except (RuntimeError, UnicodeDecodeError, LookupError) as error:  # the latter two where names are damaged
            raise ValueError(f"{path} cannot be loaded by LiteRT: {error}") from error

    def run(self, name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self._graphs[name].run(arrays)


class _Graph:
    """The graph of one of several signatures, run by name; it is resized and allocated at every call."""

    def __init__(self, runner: Any, inputs: dict[str, dict], outputs: dict[str, dict]):
        self._runner, self.inputs, self.outputs = runner, inputs, outputs

    def allocate(self) -> None:
        """Find out at once whether the graph can be set up; this one does it when it runs."""

    def run(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        given = {name: _quantized(x, self.inputs[name]) for name, x in arrays.items()}
        answers = self._runner(**given)
        return {name: _dequantized(np.asarray(answers[name]), detail) for name, detail in self.outputs.items()}


class _MainGraph(_Graph):
    """The only graph of a file, run by number; it is resized only where shapes change."""

    def __init__(self, interpreter: Any, inputs: dict[str, dict], outputs: dict[str, dict]):
        super().__init__(None, inputs, outputs)
        self._interpreter = interpreter
        self._shapes: list[tuple[int, ...]] = []
        self._starts = [(name, detail["index"], detail) for name, detail in inputs.items()]
        self._ends = [(name, detail["index"], detail) for name, detail in outputs.items()]

    def allocate(self) -> None:
        # Open sizes stand at 1 so far, with which not every model can be set up.
        if all((detail["shape_signature"][1:] >= 0).all() for detail in self.inputs.values()):
            self._interpreter.allocate_tensors()
            self._shapes = [tuple(detail["shape"].tolist()) for detail in self.inputs.values()]

    def run(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        shapes = [arrays[name].shape for name, _, _ in self._starts]
        if shapes != self._shapes:
            self._shapes = []  # unknown again if one of the next two fails
            for detail, shape in zip(self.inputs.values(), shapes, strict=True):
                self._interpreter.resize_tensor_input(detail["index"], shape)
            self._interpreter.allocate_tensors()
            self._shapes = shapes
        for name, index, detail in self._starts:
            self._interpreter.set_tensor(index, _quantized(arrays[name], detail))
        self._interpreter.invoke()
        read = self._interpreter.get_tensor
        return {name: _dequantized(np.asarray(read(index)), detail) for name, index, detail in self._ends}


def _graphs(interpreter: Any, told: dict[str, Any], path: Path) -> dict[str, _Graph]:
    """The graphs of the signatures, the default one first; of a file without any, its first graph."""
    names = interpreter.get_signature_list()
    if not names:
        ends = interpreter.get_input_details(), interpreter.get_output_details()
        return {DEFAULT: _MainGraph(interpreter, *({detail["name"]: detail for detail in side} for side in ends))}
    graphs = {}
    for name in ordered(names, told, path):
        runner = interpreter.get_signature_runner(name)
        ends = runner.get_input_details(), runner.get_output_details()
        # While anything else refers to its inside, as a runner does, the interpreter itself refuses to run.
        graphs[name] = _MainGraph(interpreter, *ends) if len(names) == 1 else _Graph(runner, *ends)
    return graphs


def _tensors(details: dict[str, dict], what: str, path: Path) -> dict[str, Tensor]:
    found = {}
    for name, detail in details.items():
        dtype = dtype_of(detail["dtype"], what, path)
        dtype = np.dtype("float32") if detail["quantization"][0] else dtype
        found[name] = Tensor(sizes(detail["shape_signature"]), plain(dtype) if what == "answers" else dtype)
    return found


def archived(path: Path, content: bytes | None = None) -> dict[str, str]:
    """Read the labels and structures of the archive that TFLite metadata appends to the file, by name.

    Args:
        path: The file.
        content: Its bytes, of one that was packed.
    """
    with open(path, "rb") if content is None else io.BytesIO(content) as file:
        file.seek(-min(_ARCHIVE_END, file.seek(0, 2)), 2)
        if not file.read().startswith(b"PK\5\6"):
            return {}
    import zipfile  # only for files that need it

    found = {}
    try:
        with zipfile.ZipFile(path if content is None else io.BytesIO(content)) as archive:
            for name in {LABELS, STRUCTURES} & set(archive.namelist()):
                found[name] = archive.read(name).decode()
    except (UnicodeDecodeError, zipfile.BadZipFile):  # files of others may hold something else
        return {}
    return found


def _quantized(x: np.ndarray, detail: dict) -> np.ndarray:
    scale, zero = detail["quantization"]
    if not scale:
        return x
    limits = np.iinfo(detail["dtype"])
    return np.clip(np.rint(x / scale) + zero, limits.min, limits.max).astype(detail["dtype"])


def _dequantized(y: np.ndarray, detail: dict) -> np.ndarray:
    scale, zero = detail["quantization"]
    if not scale:
        return y.astype("float32") if y.dtype.itemsize == 2 and y.dtype.kind == "f" else y
    return (y.astype("float32") - zero) * scale
