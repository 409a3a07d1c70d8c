"""Where a model comes from: network, data, training and packages, as `package` writes them down."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

import masslib
from masslib._util.structures import flat, mapped, without_objects
from masslib.graph import ends

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
        "input_shape": _shapes(ends.input_names(model), ends.inputs(model)),
        "output_shape": _shapes(ends.output_names(model), ends.outputs(model)),
        "weights": model.count_params(),
        "recipe": [repr(step) for step in getattr(compressed, "steps", ())],
    }


def _shapes(names: Any, tensors: Any) -> Any:
    """The shape of a row; of several inputs or outputs by name."""
    pairs = zip(keras.tree.flatten(names), keras.tree.flatten(tensors), strict=True)
    shapes = {name: list(tensor.shape[1:]) for name, tensor in pairs}
    return {name: shapes[name] for name in flat(names)} if isinstance(names, dict | list | tuple) else shapes[names]


def data(splits: Splits) -> dict[str, Any]:
    """Rows and checksum of each split."""
    parts = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    return {
        "classes": splits.classes,
        **{name: {"rows": len(part), "sha256": _checksum(part)} for name, part in parts.items()},
    }


def _checksum(part: Subset) -> str:
    """SHA-256 of the inputs as a network gets them, the labels and the weights, in their order."""
    digest = hashlib.sha256()
    for start in range(0, len(part), 4096):
        for array in flat(part[start : start + 4096]):
            digest.update(np.ascontiguousarray(without_objects(array)).tobytes())
    return digest.hexdigest()


def compiled(model: Any) -> dict[str, Any]:
    """Optimizer and loss as the model was compiled with, if it was."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return {}
    settings = {"class": type(optimizer).__name__, **_told(optimizer.get_config())}
    return {"optimizer": settings, "loss": mapped(_loss, model.loss)}


def _loss(loss: Any) -> str:
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    ignored = getattr(loss, "ignore_class", None)
    return name if ignored is None else f"{name}(ignore_class={ignored})"


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
