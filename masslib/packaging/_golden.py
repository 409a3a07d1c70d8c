"""`golden`: the inputs that lie in a package, and the answers of its files to them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from masslib._util import manifest
from masslib._util.structures import flat, kept, read, without_objects

if TYPE_CHECKING:
    from masslib.runtime import Predictor

FORMAT = "masslib package 2"
FILE = "golden.npz"
# Another processor rounds otherwise, most of all in integers.
_ALLOWED = 0.05


@dataclass(frozen=True)
class Golden:
    """A few inputs and the answers of every file of a package to them, from when it was packaged.

    Attributes:
        inputs: Arrays `(n, ...)` in the structure that the model takes.
        outputs: Name of the model file, such as `"tflite"`, -> arrays `(n, ...)` in the structure that it answers.
    """

    inputs: Any
    outputs: Mapping[str, Any]

    def check(self, name: str, predictor: Predictor) -> None:
        """Raise unless a loaded file answers the inputs as it did when it was packaged.

        Args:
            name: The file, by its name in the manifest.
            predictor: What `masslib.runtime.load` made of it.

        Raises:
            ValueError: If the answers differ, by more than 5 % of the largest number; of classes and strings, in more
                than 5 % of the values.
        """
        expected, found = _named(self.outputs[name]), _named(predictor.predict(self.inputs))
        if {key: array.shape for key, array in found.items()} != {key: array.shape for key, array in expected.items()}:
            raise ValueError(
                f"{predictor.path} answers {_shapes(found)}, and when it was packaged {_shapes(expected)}; package the "
                "model again"
            )
        for key, array in expected.items():
            difference = _difference(found[key], array)
            if not difference <= _ALLOWED:
                raise ValueError(
                    f"{predictor.path} is intact, but answers otherwise than when it was packaged: relative difference "
                    f"{difference:.3g}{f' of output {key}' if key else ''}; compare the versions of the packages in "
                    "manifest.json with yours"
                )


def golden(folder: str | os.PathLike[str]) -> Golden:
    """Read the golden rows of a folder that `package` wrote; TensorFlow is not imported.

    Only the manifest and the file of the rows are checked, not the models: that is for `verify`.

    Args:
        folder: The folder.

    Returns:
        The `Golden` rows.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If another function or another version of masslib wrote it, or the rows are missing or damaged.

    Example:
        >>> import masslib, tempfile
        >>> splits = masslib.data.load("digits")
        >>> model = masslib.models.mlp(splits.input_shape, splits.num_classes)
        >>> folder = masslib.package(model, tempfile.mkdtemp() + "/it", splits, formats=["tflite"], verbose=False)
        >>> rows = golden(folder)
        >>> rows.inputs.shape, rows.outputs["tflite"].shape
        ((16, 8, 8, 1), (16, 10))
        >>> with masslib.runtime.load(folder / "float32.tflite") as predictor:
        ...     rows.check("tflite", predictor)
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder that masslib.package has written")
    facts = manifest.read_sealed(folder / "manifest.json")
    check_format(facts, folder)
    path = folder / FILE
    try:
        told, said = facts["golden"], facts["files"][FILE]["sha256"]
        inputs, outputs = told["inputs"], dict(told["outputs"])
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"the manifest of {folder} does not tell what lies in {FILE}; package it again") from error
    if not path.is_file() or manifest.checksum(path) != said:
        raise ValueError(f"{path} is missing or was changed; make or copy the folder again")
    return Golden(read(path, inputs), {name: read(path, keys) for name, keys in outputs.items()})


def write(folder: Path, rows: Golden) -> dict[str, Any]:
    """Write the rows into a folder; return what its manifest is to tell of them."""
    inputs, arrays = kept(rows.inputs, "inputs/")
    outputs = {}
    for name, answer in rows.outputs.items():
        outputs[name], more = kept(answer, f"{name}/")
        arrays |= more
    np.savez(folder / FILE, **arrays)
    return {"file": FILE, "rows": len(flat(rows.inputs)[0]), "inputs": inputs, "outputs": outputs}


def check_format(facts: Mapping[str, Any], folder: Path) -> None:
    """Refuse a manifest of something else."""
    if facts.get("format") != FORMAT:
        raise ValueError(
            f"{folder} has the format {facts.get('format')!r}, and verify of this masslib reads {FORMAT!r}"
        )


def _named(structure: Any, path: str = "") -> dict[str, np.ndarray]:
    """The arrays of a structure by where they stand, such as `'boxes'` or `'0/scores'`; one alone by ''."""
    if isinstance(structure, Mapping | list | tuple):
        parts = structure.items() if isinstance(structure, Mapping) else enumerate(structure)
        return {name: leaf for key, part in parts for name, leaf in _named(part, f"{path}/{key}").items()}
    return {} if structure is None else {path[1:]: np.asarray(structure)}


def _shapes(arrays: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"{key} {array.shape}".lstrip() for key, array in arrays.items())


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference of floats, relative to the largest number; of other values the share that differs."""
    if expected.dtype.kind == "f":
        return float(np.abs(found - expected).max(initial=0) / max(float(np.abs(expected).max(initial=0)), 1e-30))
    found = without_objects(found)
    if (found.dtype.kind in "SU" or expected.dtype.kind in "SU") and found.dtype.kind != expected.dtype.kind:
        return 1.0
    return float(np.mean(found != expected)) if expected.size else 0.0
