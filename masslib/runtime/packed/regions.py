"""Where the numbers lie in a TFLite file: pieces of its bytes that are coded apart from the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as generated

# Number types of TFLite -> those of NumPy, as they lie in the file
_TYPES = {
    generated.TensorType.INT8: "int8",
    generated.TensorType.UINT8: "uint8",
    generated.TensorType.INT16: "<i2",
    generated.TensorType.INT32: "<i4",
    generated.TensorType.INT64: "<i8",
    generated.TensorType.FLOAT16: "<f2",
    generated.TensorType.FLOAT32: "<f4",
    generated.TensorType.FLOAT64: "<f8",
}
_LEAST_BYTES = 32
_LEAST_SCALES = 8
_MOST_LAGS = 8


@dataclass(frozen=True)
class Region:
    """A piece of a file that holds numbers of one type.

    Attributes:
        start: Where it begins, in bytes.
        dtype: The type of the numbers.
        shape: Rows, one for each output channel, and columns.
        lags: Distances between columns, or rows, that may have something to do with each other.
    """

    start: int
    dtype: np.dtype
    shape: tuple[int, int]
    lags: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + self.shape[0] * self.shape[1] * self.dtype.itemsize


def regions(content: bytes) -> list[Region]:
    """The tensors of a TFLite file, and the scales of its channels, in the order in which they lie there."""
    base = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    model = generated.Model.GetRootAs(content, 0)
    found, channels = {}, set()
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        for tensor in map(graph.Tensors, range(graph.TensorsLength())):
            scales = tensor.Quantization().ScaleAsNumpy() if tensor.Quantization() is not None else 0
            if np.size(scales) >= _LEAST_SCALES:
                start = scales.__array_interface__["data"][0] - base
                found[start] = Region(start, np.dtype("<f4"), (1, len(scales)))
            data = model.Buffers(tensor.Buffer()).DataAsNumpy()
            if np.size(data) < _LEAST_BYTES or tensor.Type() not in _TYPES or tensor.Sparsity() is not None:
                continue
            shape = tuple(tensor.ShapeAsNumpy().tolist()) if tensor.ShapeLength() else ()
            dtype, start = np.dtype(_TYPES[tensor.Type()]), data.__array_interface__["data"][0] - base
            if math.prod(shape) * dtype.itemsize == len(data):
                found[start] = Region(start, dtype, _matrix(shape), _lags(shape))
                channels.add(shape[0])
    kept, end = [], 0
    for start in sorted(found):
        if start >= end:
            kept.append(found[start])
            end = found[start].end
    return [_with_lags(region, channels) for region in kept]


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns: output channels and the rest."""
    if len(shape) == 1:
        return 1, shape[0]
    if len(shape) == 4 and shape[0] == 1:  # depthwise: the channels come last
        return math.prod(shape[:-1]), shape[-1]
    return shape[0], math.prod(shape[1:])


def _lags(shape: tuple[int, ...]) -> tuple[int, ...]:
    """From one pixel of a convolution to the next, and to the next row of pixels."""
    return (shape[-1], shape[-1] * shape[-2]) if len(shape) == 4 else ()


def _with_lags(region: Region, channels: set[int]) -> Region:
    """Add the distances that a dense layer may have on flattened images: their width, and the channels before."""
    columns = region.shape[1]
    lags = {lag for lag in (*region.lags, math.isqrt(columns), math.isqrt(columns // 3)) if lag > 1}
    for size in channels:
        if 1 < size < columns and columns % size == 0:
            lags |= {size, size * math.isqrt(columns // size)}
    return Region(region.start, region.dtype, region.shape, tuple(sorted(lags)[:_MOST_LAGS]))
