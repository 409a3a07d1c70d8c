"""What `compress` returns, and how it is kept: in a folder with the model, the recipe, and the checksums of both."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tf_keras

from masslib._util import manifest, structures
from masslib._util.files import replacing
from masslib._util.messages import first_paragraph
from masslib._util.quiet import quiet
from masslib.bridge.carried import check_portable
from masslib.bridge.translate import register
from masslib.compression import steps
from masslib.compression.step import Step
from masslib.compression.tfmot.schemes import by_role, quantize_scope
from masslib.export._tflite import tflite
from masslib.graph.layers import is_own, why_not_written
from masslib.graph.nodes import named_layers
from masslib.runtime import Predictor, load

_FORMAT = "masslib compressed model 2"
# TFMOT's layers do not survive the formats that hold architecture and weights together.
_MODEL, _ARCHITECTURE, _WEIGHTS = "model.keras", "tf_keras.json", "tf_keras.npz"
_ROWS = "calibration.npz"


@dataclass(frozen=True)
class Compressed:
    """What `compress` returns.

    Attributes:
        model: The compressed model, in Keras 3. After `Quantize` it still is the float model: the precision is
            applied when it is exported. After `QuantizeAware` it is the tf_keras model that carries the ranges.
        steps: The recipe that made it.
        skipped: Layers that a step left alone, with the reason.
        precision: Precision of the TFLite file that `masslib.export.tflite` will write.
        calibration: Rows `(n, *input_shape)` that calibrate it, if it needs any, in the structure of the inputs.
    """

    model: Any
    steps: tuple[Step, ...]
    skipped: dict[str, str] = field(default_factory=dict)
    precision: str = "float32"
    calibration: Any = field(default=None, repr=False)

    def predict(self, x: Any, *, batch_size: int = 256) -> Any:
        """Answer as the file does that `masslib.export.tflite` writes; the first call writes it, for itself.

        So `masslib.evaluate(compressed, data)` tells the accuracy of what will be deployed, rounding included.

        Args:
            x: Inputs `(n, *input_shape)`, in the structure of the model.
            batch_size: Rows at once.

        Returns:
            Outputs `(n, *output_shape)`, in the structure of the model; floats are float32.

        Raises:
            ValueError: As `masslib.export.tflite`, and if the inputs do not fit.

        Example:
            >>> import masslib, numpy as np
            >>> small = masslib.compress(masslib.models.mlp((4,), 3), masslib.Quantize("dynamic"))
            >>> small.predict(np.zeros((2, 4))).shape
            (2, 3)
        """
        return self._file.predict(x, batch_size=batch_size)

    @cached_property
    def _file(self) -> Predictor:
        folder = tempfile.TemporaryDirectory()
        predictor = load(tflite(self, Path(folder.name, "model.tflite"), batch_size="auto"))
        weakref.finalize(self, _dropped, predictor, folder)
        return predictor

    def __getstate__(self) -> dict[str, Any]:
        """A copy writes a file of its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_file"}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything into a folder, whole or not at all; one that `save` made is replaced.

        Args:
            path: The folder to make.

        Raises:
            ValueError: If the folder holds files of others.

        Example:
            >>> import masslib, tempfile
            >>> small = masslib.compress(masslib.models.mlp((4,), 3), masslib.Quantize("dynamic"))
            >>> folder = tempfile.mkdtemp() + "/small"
            >>> small.save(folder)
            >>> masslib.Compressed.load(folder).precision
            'dynamic'
        """
        _write(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Compressed:
        """Read back what `save` wrote.

        Args:
            path: The folder.

        Returns:
            An equal `Compressed`: its exported file has the same answers.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: If a file in it is missing or was changed since, or a newer masslib wrote it.
        """
        return cls(**_read(path))


def _dropped(predictor: Predictor, folder: tempfile.TemporaryDirectory) -> None:
    predictor.close()
    folder.cleanup()


def _check_written(model: keras.Model) -> None:
    """Raise if the file of a model could not be loaded again."""
    for name, layer in named_layers(model).items():
        reason = why_not_written(layer) if is_own(layer) else ""
        if reason:
            raise ValueError(
                f"layer {name!r} cannot be saved ({reason}); give its class {type(layer).__name__} a get_config() that "
                "returns all arguments of __init__, **kwargs for super().__init__(), and the decorator "
                "@keras.saving.register_keras_serializable(); the files of masslib.export need none of it"
            )


def _write(compressed: Compressed, path: str | os.PathLike[str]) -> None:
    """Write the folder, whole or not at all."""
    if isinstance(compressed.model, keras.Model):
        _check_written(compressed.model)
    facts = {
        "format": _FORMAT,
        "steps": [{"step": type(step).__name__, **step.settings()} for step in compressed.steps],
        "skipped": compressed.skipped,
        "precision": compressed.precision,
    }
    with replacing(path) as folder:
        folder.mkdir()
        if isinstance(compressed.model, keras.Model):
            compressed.model.save(folder / _MODEL)
        else:
            architecture = compressed.model.to_json()
            check_portable(architecture)
            (folder / _ARCHITECTURE).write_text(architecture)
            np.savez(folder / _WEIGHTS, **{name: value.numpy() for name, value in _variables(compressed.model)})
        if compressed.calibration is not None:
            facts["calibration"], arrays = structures.kept(compressed.calibration)
            np.savez(folder / _ROWS, **arrays)
        manifest.write(folder, **facts)


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Check the folder and return the fields of the `Compressed`."""
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder that Compressed.save has written")
    facts = manifest.read(folder)
    if facts.get("format") != _FORMAT:
        raise ValueError(f"{folder} has the format {facts.get('format')!r}, this masslib reads {_FORMAT!r}")
    return {
        "model": _load_keras(folder) if (folder / _MODEL).exists() else _load_tf_keras(folder),
        "steps": tuple(_step(settings, folder) for settings in facts["steps"]),
        "skipped": facts["skipped"],
        "precision": facts["precision"],
        "calibration": structures.read(folder / _ROWS, facts["calibration"]) if "calibration" in facts else None,
    }


def _load_keras(folder: Path) -> Any:
    try:
        return keras.saving.load_model(folder / _MODEL, compile=False)
    except TypeError as error:  # the file is whole, so it is a layer
        raise ValueError(
            f"{folder / _MODEL} holds a layer that is not known here ({first_paragraph(error).rstrip('.')}); import "
            "the module that defines it, where @keras.saving.register_keras_serializable() decorates its class"
        ) from error


def _load_tf_keras(folder: Path) -> Any:
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


def _step(settings: dict[str, Any], folder: Path) -> Step:
    settings = dict(settings)
    name = settings.pop("step")
    kind = getattr(steps, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Step)):
        raise ValueError(f"{folder} holds the step {name!r}, which this masslib does not have; update masslib")
    try:
        return kind.from_settings(settings)
    except TypeError as error:
        raise ValueError(
            f"{folder} holds the step {name!r} with settings that this masslib does not have ({', '.join(settings)}); "
            "update masslib"
        ) from error
