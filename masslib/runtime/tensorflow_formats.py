"""SavedModel folders and `.keras` files, run by TensorFlow."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from masslib._util import manifest
from masslib._util.extras import needed_by
from masslib._util.files import SAVED_MODEL_MANIFEST
from masslib._util.messages import first_line
from masslib._util.structures import encoded
from masslib.runtime.arrays import dtype_of, plain, sizes
from masslib.runtime.signature import DEFAULT, Tensor, checked, ordered, packed, signature


class SavedModel:
    format = "saved_model"
    threads = None

    def __init__(self, path: Path):
        facts = manifest.read(path, SAVED_MODEL_MANIFEST) if (path / SAVED_MODEL_MANIFEST).exists() else {}
        told = checked(facts.get("signatures", {}), path)
        with needed_by(str(path)):
            import tensorflow as tf

        try:
            self._model = tf.saved_model.load(str(path))
        except Exception as error:  # TensorFlow has many for a folder that is damaged
            raise ValueError(f"{path} is not a whole SavedModel: {first_line(error)}") from error
        self._calls = {name: self._model.signatures[name] for name in ordered(self._model.signatures, told, path)}
        self.signatures = {
            name: signature(
                _specified(call.structured_input_signature[1], "takes", path),
                _specified(call.structured_outputs, "answers", path),
                path,
                told.get(name),
            )
            for name, call in self._calls.items()
        }
        labels = path / "assets" / "labels.txt"
        self.labels = labels.read_text(encoding="utf-8").splitlines() if labels.is_file() else None

    def run(self, name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        import tensorflow as tf

        call = self._calls[name]
        specs = call.structured_input_signature[1]
        answers = call(**{key: tf.cast(x, specs[key].dtype) for key, x in arrays.items()})
        outputs = self.signatures[name].outputs
        return {
            key: np.asarray(answer.numpy()).astype(outputs[key].dtype, copy=False) for key, answer in answers.items()
        }


class Keras:
    format = "keras"
    threads = None
    labels = None

    def __init__(self, path: Path):
        _check_zip(path)
        with needed_by(str(path)):
            import keras

            from masslib.graph import ends

        self._flatten = keras.tree.flatten
        self._model = keras.saving.load_model(path, compile=False)
        if not getattr(self._model, "inputs", None):
            raise ValueError(
                f"{path} holds a model that does not tell its inputs until it is called; load it with "
                "keras.saving.load_model, or export it with example_inputs"
            )
        takes, answers = ends.input_names(self._model), ends.output_names(self._model)
        self._names = keras.tree.flatten(answers)
        inputs = _known(keras.tree.flatten(takes), self._model.inputs, "takes", path)
        outputs = _known(self._names, self._model.outputs, "answers", path)
        told = {"inputs": encoded(takes), "outputs": encoded(answers)}
        self.signatures = {DEFAULT: signature(inputs, outputs, path, told)}

    def run(self, name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        told = self.signatures[name]
        answers = self._flatten(self._model(packed(arrays, told.takes), training=False))
        return {
            key: np.asarray(answer).astype(told.outputs[key].dtype, copy=False)
            for key, answer in zip(self._names, answers, strict=True)
        }


def _specified(specs: dict[str, Any], what: str, path: Path) -> dict[str, Tensor]:
    found = {}
    for name, spec in specs.items():
        dtype = dtype_of(spec.dtype.name, what, path)
        shape = spec.shape.as_list() if spec.shape.rank is not None else [None]
        found[name] = Tensor(sizes(shape), plain(dtype) if what == "answers" else dtype)
    return found


def _known(names: list[str], tensors: list[Any], what: str, path: Path) -> dict[str, Tensor]:
    found = {}
    for name, tensor in zip(names, tensors, strict=True):
        dtype = dtype_of(tensor.dtype, what, path)
        found[name] = Tensor(tuple(tensor.shape), plain(dtype) if what == "answers" else dtype)
    return found


def _check_zip(path: Path) -> None:
    """A `.keras` file is a zip archive whose checksums Keras does not look at when it reads the weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
            names = archive.namelist()
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, OSError, NotImplementedError, zlib.error) as error:
        raise ValueError(f"{path} is damaged or no .keras file: {error}") from error
    missing = [name for name in ("config.json", "model.weights.h5") if name not in names]
    if wrong or missing:
        what = f"the checksum of {wrong} in it is wrong" if wrong else f"it holds no {missing[0]}"
        raise ValueError(f"{path} is damaged or no .keras file: {what}; save or copy it again")
