"""SavedModel folders and `.keras` files, run by TensorFlow."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from masslib._util import manifest
from masslib._util.extras import needed_by
from masslib._util.files import SAVED_MODEL_MANIFEST
from masslib._util.messages import first_line
from masslib.runtime.arrays import dtype_of, only, plain, sizes


class SavedModel:
    format = "saved_model"
    threads = None

    def __init__(self, path: Path):
        if (path / SAVED_MODEL_MANIFEST).exists():
            manifest.read(path, SAVED_MODEL_MANIFEST)
        with needed_by(str(path)):
            import tensorflow as tf

        try:
            self._model = tf.saved_model.load(str(path))
        except Exception as error:  # TensorFlow has many for a folder that is damaged
            raise ValueError(f"{path} is not a whole SavedModel: {first_line(error)}") from error
        if "serving_default" not in self._model.signatures:
            raise ValueError(f"{path} has no 'serving_default' signature; it has {list(self._model.signatures)}")
        self._call = self._model.signatures["serving_default"]
        inputs = list(self._call.structured_input_signature[1].items())
        self._name, spec = only(inputs, "inputs", path)
        self._output, answer = only(list(self._call.structured_outputs.items()), "outputs", path)
        self._dtype = spec.dtype
        self.batch, *shape = sizes(spec.shape)
        self.input_shape, self.output_shape = tuple(shape), sizes(answer.shape)[1:]
        self.dtype = dtype_of(spec.dtype.name, "takes", path)
        self.output_dtype = plain(dtype_of(answer.dtype.name, "answers", path))
        labels = path / "assets" / "labels.txt"
        self.labels = labels.read_text(encoding="utf-8").splitlines() if labels.is_file() else None

    def run(self, x: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        answer = self._call(**{self._name: tf.cast(x, self._dtype)})[self._output]
        return answer.numpy().astype(self.output_dtype, copy=False)


class Keras:
    format = "keras"
    threads = None
    labels = None

    def __init__(self, path: Path):
        _check_zip(path)
        with needed_by(str(path)):
            import keras

        self._model = keras.saving.load_model(path, compile=False)
        entry, answer = only(self._model.inputs, "inputs", path), only(self._model.outputs, "outputs", path)
        self.batch, *shape = entry.shape
        self.input_shape, self.output_shape = tuple(shape), tuple(answer.shape[1:])
        self.dtype = dtype_of(entry.dtype, "takes", path)
        self.output_dtype = plain(dtype_of(answer.dtype, "answers", path))

    def run(self, x: np.ndarray) -> np.ndarray:
        return self._model(x, training=False).numpy().astype(self.output_dtype, copy=False)


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
