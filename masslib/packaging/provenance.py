"""Where a model comes from: network, data, training and packages, as `package` writes them down."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

import masslib

if TYPE_CHECKING:
    from masslib.data import Splits, Subset

_PACKAGES = (
    "tensorflow",
    "keras",
    "tensorflow-model-optimization",
    "ai-edge-litert",
    "onnxruntime",
    "openvino",
    "numpy",
)


def network(model: Any, compressed: Any) -> dict[str, Any]:
    """Shapes, weights, and the recipe of a `Compressed` model."""
    return {
        "name": model.name,
        "input_shape": list(model.inputs[0].shape[1:]),
        "output_shape": list(model.outputs[0].shape[1:]),
        "weights": model.count_params(),
        "recipe": [repr(step) for step in getattr(compressed, "steps", ())],
    }


def data(splits: Splits) -> dict[str, Any]:
    """Rows and checksum of each split."""
    parts = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    return {
        "classes": splits.classes,
        **{name: {"rows": len(part), "sha256": _checksum(part)} for name, part in parts.items()},
    }


def _checksum(part: Subset) -> str:
    """SHA-256 of the float32 inputs and the labels, in their order."""
    digest = hashlib.sha256()
    for start in range(0, len(part), 4096):
        for array in part[start : start + 4096]:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def compiled(model: Any) -> dict[str, Any]:
    """Optimizer and loss as the model was compiled with, if it was."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return {}
    settings = {"class": type(optimizer).__name__, **_told(optimizer.get_config())}
    loss = model.loss if isinstance(model.loss, str) else getattr(model.loss, "__name__", type(model.loss).__name__)
    return {"optimizer": settings, "loss": loss}


def _told(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a Keras configuration that are switched on, without the names that Keras finds its classes by."""
    hidden = ("name", "module", "registered_name")
    return {
        key: _told(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in hidden and (isinstance(value, int | float | str | dict) and value is not False)
    }


def versions() -> dict[str, str]:
    """Versions of the packages that took part."""
    import importlib.metadata  # only here, because it is slow to import

    found = {"python": platform.python_version(), "masslib": masslib.__version__}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that is not installed took no part
    return found


def machine() -> str:
    """The machine in a few words."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores"
