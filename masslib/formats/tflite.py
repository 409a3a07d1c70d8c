"""What lies in a TFLite file: its weights, read without TensorFlow and without running the model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from masslib._util.extras import needed_by
from masslib.formats import schema
from masslib.runtime.unpacking import checked

if TYPE_CHECKING:
    import pandas as pd

# The types of numbers that weights are kept in
_TYPES = ("float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int4")


def sparsity(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Count zeros and distinct values in every stored weight tensor of a TFLite file.

    It shows whether pruning and clustering arrived in the file. A kernel whose batch normalization was folded into
    it, or that is quantized per channel, keeps its clusters within each output channel.

    Args:
        path: A `.tflite` file, or a `.packed` one.

    Returns:
        One row per tensor of weights or biases, indexed by its name. Columns: `shape` (in the order of TFLite, that is
        output channels first), `dtype`, `zeros` (a fraction; of quantized weights, those equal to the zero point),
        `distinct` (number of different values), `distinct_per_channel` (the same within the output channel that has
        most), `bytes` (as stored).

    Raises:
        FileNotFoundError: If nothing lies at `path`.
        ValueError: If it is not a TFLite file, or damaged.

    References:
        The schema of TFLite, by `ai_edge_litert.schema_py_generated`.

    Example:
        >>> import masslib, tempfile
        >>> path = masslib.export.tflite(masslib.models.mlp((4,), 3), tempfile.mkdtemp() + "/mlp.tflite")
        >>> table = masslib.measure.sparsity(path)
        >>> int(table["bytes"].max()), float(table["zeros"].round(3).min())
        (120000, 0.0)
    """
    with needed_by("masslib.formats.sparsity"):
        import pandas as pd

    rows = [(name_of(tensor), *summary(tensor, dtype, data)) for tensor, dtype, data in _weight_tensors(path)]
    columns = ["name", "shape", "dtype", "zeros", "distinct", "distinct_per_channel", "bytes"]
    return pd.DataFrame(rows, columns=columns).set_index("name")


def weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read every stored weight tensor of a TFLite file, as the numbers that it stands for.

    Args:
        path: A `.tflite` file, or a `.packed` one.

    Returns:
        Name -> float32 array, in the order and with the names and shapes of `sparsity`. Quantized weights are
        multiplied by their scale.

    Raises:
        FileNotFoundError: If nothing lies at `path`.
        ValueError: If it is not a TFLite file, damaged, or stores its weights in the sparse encoding.

    Example:
        >>> import masslib, tempfile
        >>> path = masslib.export.tflite(masslib.models.mlp((4,), 3), tempfile.mkdtemp() + "/mlp.tflite")
        >>> sorted(kernel.shape for kernel in masslib.measure.weights(path).values() if kernel.ndim == 2)
        [(3, 100), (100, 300), (300, 4)]
    """
    return {name_of(tensor): _numbers(tensor, dtype, data, path) for tensor, dtype, data in _weight_tensors(path)}


def _weight_tensors(path: str | os.PathLike[str]) -> Iterator[tuple[Any, str, np.ndarray]]:
    """Every tensor of weights or biases, its number type and its bytes; what several signatures share once."""
    model, content = read(path)
    seen: set[int] = set()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            dtype = schema.type_name(tensor)
            if not is_weight(tensor, dtype):
                continue
            data = stored_bytes(model.buffers[tensor.buffer], content)
            if data.size and tensor.buffer not in seen:
                seen.add(tensor.buffer)
                yield tensor, dtype, data


def _numbers(tensor: Any, dtype: str, data: np.ndarray, path: str | os.PathLike[str]) -> np.ndarray:
    if tensor.sparsity is not None:
        raise ValueError(f"{path} stores {name_of(tensor)!r} in the sparse encoding; export it without sparse=True")
    shape = tuple(int(size) for size in tensor.shape)
    values = (_unpacked(data) if dtype == "int4" else data.view(dtype))[: np.prod(shape)].reshape(shape)
    if not _scales(tensor):
        return values.astype("float32")
    spread = [1] * len(shape)
    if _scales(tensor) > 1:
        spread[int(tensor.quantization.quantizedDimension)] = -1
    scale, zero = (
        np.reshape(numbers, spread) for numbers in (tensor.quantization.scale, tensor.quantization.zeroPoint)
    )
    return ((values.astype("float64") - zero) * scale).astype("float32")


def read(path: str | os.PathLike[str]) -> tuple[Any, bytes]:
    """The tables of a TFLite file, packed or not (`schema_py_generated.ModelT`), and its bytes.

    Raises:
        FileNotFoundError: If nothing lies at `path`.
        ValueError: If it is not a TFLite file, or damaged.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; export a model there first")
    content = checked(path) or path.read_bytes()
    try:
        return schema.unpacked(content), content
    except Exception as error:  # whatever damaged offsets make the generated reader raise
        raise ValueError(f"{path} is damaged: {type(error).__name__} while its tables were read") from error


def stored_bytes(buffer: Any, content: bytes) -> np.ndarray:
    """The bytes of a buffer, none if it is filled in only while the model runs."""
    if buffer.data is not None:
        return np.asarray(buffer.data, "uint8")
    # Beyond 2 GB the data lie behind the flatbuffer; an offset of 1 marks a place not filled in.
    if buffer.offset > 1:
        return np.frombuffer(content, "uint8", buffer.size, buffer.offset)
    return np.zeros(0, "uint8")


def is_weight(tensor: Any, dtype: str) -> bool:
    """Tell weights from shapes, axes and paddings, which are integers without a scale, and from single constants."""
    if dtype not in _TYPES or tensor.shape is None or not len(tensor.shape):
        return False
    return "float" in dtype or _scales(tensor) > 0


def _scales(tensor: Any) -> int:
    scale = tensor.quantization.scale if tensor.quantization else None
    return 0 if scale is None else len(scale)


def summary(tensor: Any, dtype: str, data: np.ndarray) -> tuple[Any, ...]:
    """Shape, dtype, zeros, distinct values, distinct values per channel and bytes of a stored tensor."""
    shape = tuple(int(size) for size in tensor.shape)
    values = _unpacked(data) if dtype == "int4" else data.view(dtype)
    if tensor.sparsity is not None:
        # Only blocks that hold something are stored.
        total, stored = int(np.prod(shape)), np.unique(values[values != 0])
        distinct = len(stored) + (np.count_nonzero(values) < total)
        return (shape, dtype, 1 - np.count_nonzero(values) / total, distinct, distinct, data.size)
    axis = _channel_axis(tensor, shape)
    channels = np.moveaxis(values[: np.prod(shape)].reshape(shape), axis, 0).reshape(shape[axis], -1)
    zero = np.asarray(tensor.quantization.zeroPoint if "int" in dtype else 0).reshape(-1, 1)
    return (
        shape,
        dtype,
        float(np.mean(channels == zero)),
        len(np.unique(channels)),
        max(len(np.unique(channel)) for channel in channels),
        data.size,
    )


def name_of(tensor: Any) -> str:
    """The first name of a tensor."""
    # The converter joins the names of all operations that it has folded together.
    return tensor.name.decode(errors="replace").split(";")[0]


def _channel_axis(tensor: Any, shape: tuple[int, ...]) -> int:
    if _scales(tensor) > 1:
        return int(tensor.quantization.quantizedDimension)
    return 3 if len(shape) == 4 and shape[0] == 1 else 0


def _unpacked(data: np.ndarray) -> np.ndarray:
    """Two numbers of 4 bits lie in a byte, the first in its lower half."""
    halves = np.stack([data & 15, data >> 4], axis=-1).reshape(-1).astype("int8")
    return np.where(halves > 7, halves - 16, halves)
