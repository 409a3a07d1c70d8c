"""A compressed model in a folder: the model, the recipe, and the checksums of all of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from masslib import compression, manifest
from masslib.bridge.toolkit import quiet
from masslib.bridge.translate import register
from masslib.compression.schemes import by_role, quantize_scope
from masslib.files import replacing

if TYPE_CHECKING:
    from masslib.compression.result import Compressed
    from masslib.compression.step import Step

_FORMAT = "masslib compressed model 1"
# TFMOT's layers do not survive the formats that hold architecture and weights together.
_MODEL, _ARCHITECTURE, _WEIGHTS = "model.keras", "tf_keras.json", "tf_keras.npz"
_ROWS = "calibration.npy"


def write(compressed: Compressed, path: str | os.PathLike[str]) -> None:
    """Write the folder, whole or not at all."""
    import keras

    facts = {
        "format": _FORMAT,
        "steps": [{"step": type(step).__name__, **step.settings()} for step in compressed.steps],
        "skipped": compressed.skipped,
        "precision": compressed.precision,
        "calibrated": compressed.calibration is not None,
    }
    with replacing(path) as folder:
        folder.mkdir()
        if isinstance(compressed.model, keras.Model):
            compressed.model.save(folder / _MODEL)
        else:
            (folder / _ARCHITECTURE).write_text(compressed.model.to_json())
            np.savez(folder / _WEIGHTS, **{name: value.numpy() for name, value in _variables(compressed.model)})
        if compressed.calibration is not None:
            np.save(folder / _ROWS, compressed.calibration, allow_pickle=False)
        manifest.write(folder, **facts)


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Check the folder and return the fields of the `Compressed`."""
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder that Compressed.save has written")
    facts = manifest.read(folder)
    if facts.get("format") != _FORMAT:
        raise ValueError(f"{folder} has the format {facts.get('format')!r}, this masslib reads {_FORMAT!r}")
    return {
        "model": _load_keras(folder) if (folder / _MODEL).exists() else _load_tf_keras(folder),
        "steps": tuple(_step(settings) for settings in facts["steps"]),
        "skipped": facts["skipped"],
        "precision": facts["precision"],
        "calibration": np.load(folder / _ROWS, allow_pickle=False) if facts["calibrated"] else None,
    }


def _load_keras(folder: Path) -> Any:
    import keras

    return keras.saving.load_model(folder / _MODEL, compile=False)


def _load_tf_keras(folder: Path) -> Any:
    import tf_keras

    register()
    with quantize_scope(), quiet():
        model = tf_keras.models.model_from_json((folder / _ARCHITECTURE).read_text())
    with np.load(folder / _WEIGHTS, allow_pickle=False) as weights:
        for name, variable in _variables(model):
            variable.assign(weights[name])
    return model


def _variables(model: Any) -> Iterator[tuple[str, Any]]:
    """A loaded model has some variables twice, because TFMOT's QuantizeLayer makes them anew; so count on no order."""
    for index, layer in enumerate(model.layers):
        for role, variable in by_role(layer).items():
            yield f"{index} {role}", variable


def _step(settings: dict[str, Any]) -> Step:
    settings = dict(settings)
    return getattr(compression, settings.pop("step")).from_settings(settings)
