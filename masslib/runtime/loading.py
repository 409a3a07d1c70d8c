"""Which runtime reads which file."""

from __future__ import annotations

import os
from pathlib import Path

from masslib._util.checks import check_counts
from masslib.runtime import ensembles
from masslib.runtime.predictor import Predictor
from masslib.runtime.unpacking import SUFFIX


def load(path: str | os.PathLike[str], *, threads: int = 1) -> Predictor:
    """Load an exported model, whatever its format, behind one `predict`.

    Args:
        path: A `.tflite` file (run by LiteRT), a `.packed` one (unpacked into memory and run by it, too), an `.onnx`
            file (by ONNX Runtime, the extra `onnx`), the `.xml` file of OpenVINO (the extra `openvino`), a `.keras`
            file, or the folder of a SavedModel; of a folder of numbered versions, as TensorFlow Serving has them, the
            newest is taken. An `.ensemble` file, as `masslib.package` writes it, answers with the files beside it.
        threads: CPU threads; `.keras` files and SavedModels use TensorFlow's own setting.

    Returns:
        A `Predictor` of the default signature, also usable as a context manager; its `signatures` has the others.

    Raises:
        FileNotFoundError: If nothing lies at `path`.
        ModuleNotFoundError: If the runtime of the format is not installed.
        ValueError: If the format is unknown, or the file is damaged.

    Example:
        >>> import masslib, tempfile, numpy as np
        >>> path = tempfile.mkdtemp() + "/mlp.tflite"
        >>> model = masslib.models.mlp((4,), 3)
        >>> _ = masslib.export.tflite(model, path)
        >>> with masslib.runtime.load(path) as predictor:
        ...     predictor.predict(np.zeros((5, 4), "float32")).shape
        (5, 3)
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; export a model there first")
    check_counts(threads=(threads, 1))
    if path.is_dir():
        from masslib.runtime.tensorflow_formats import SavedModel

        path = _newest_version(path)
        return Predictor(path, SavedModel(path))
    if path.suffix in (".tflite", SUFFIX):
        from masslib.runtime.litert import LiteRT

        return Predictor(path, LiteRT(path, threads))
    if path.suffix == ".onnx":
        from masslib.runtime.onnx_format import ONNX

        return Predictor(path, ONNX(path, threads))
    if path.suffix == ".xml":
        from masslib.runtime.openvino_format import OpenVINO

        return Predictor(path, OpenVINO(path, threads))
    if path.suffix == ensembles.SUFFIX:
        from masslib.runtime.ensemble_format import Members

        return Predictor(path, Members(path, threads, lambda file: load(file, threads=threads)))
    if path.suffix == ".keras":
        from masslib.runtime.tensorflow_formats import Keras

        return Predictor(path, Keras(path))
    raise ValueError(f"{path}: {_EXPECTED}")


_EXPECTED = (
    "expected a .tflite, .packed, .ensemble or .keras file or the folder of a SavedModel, or with the extras .onnx or "
    "OpenVINO's .xml"
)


def _newest_version(folder: Path) -> Path:
    """The folder of a SavedModel, or the one with the highest number in it."""
    if (folder / "saved_model.pb").exists():
        return folder
    versions = [entry for entry in folder.iterdir() if entry.name.isdigit() and (entry / "saved_model.pb").exists()]
    if not versions:
        raise ValueError(f"{folder}: {_EXPECTED}")
    return max(versions, key=lambda entry: int(entry.name))
