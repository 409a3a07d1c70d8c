"""An ensemble in a package: a file for each member, and one that says how their answers are combined.

Networks become TFLite files and estimators ONNX files, so that the package runs without TensorFlow and without
scikit-learn, and holds no pickle; files are copied as they are.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from masslib import runtime
from masslib.ensemble import Ensemble
from masslib.ensemble.members import Member
from masslib.export._estimators import estimator
from masslib.export._tflite import tflite
from masslib.runtime import ensembles

if TYPE_CHECKING:
    from masslib.data import Splits

_ALLOWED = 1e-2


def write(
    model: Ensemble,
    path: Path,
    *,
    labels: Sequence[str] | None = None,
    example_inputs: Any = None,
    description: str | None = None,
) -> Path:
    """Write an ensemble and its members into one folder, and check that they answer as it does.

    Raises:
        ValueError: If a member cannot be written; it is named.
    """
    files = {}
    for number, member in enumerate(model.members):
        stem = re.sub(r"[^A-Za-z0-9]+", "_", member.name).strip("_") or "member"
        try:
            files[member.name] = _written(member, path.parent, f"{number}_{stem}", example_inputs).name
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"member {member.name!r}: {error}", name=error.name) from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"member {member.name!r} ({member.kind}) cannot be packaged: {error}") from error
    ensembles.write(path, model.rule, files)
    with runtime.load(path) as predictor:
        difference = float(np.abs(predictor.predict(example_inputs) - model.predict(example_inputs)).mean())
    if not difference <= _ALLOWED:
        raise ValueError(f"the files of {model!r} answer otherwise: mean difference {difference:.3g}")
    return path


def _written(member: Member, folder: Path, stem: str, rows: Any) -> Path:
    model, path = member.model, getattr(member.model, "path", None)
    if member.is_estimator:
        return estimator(model, folder / f"{stem}.onnx", np.asarray(rows).reshape(len(rows), -1))
    if isinstance(path, Path) and path.suffix != ".keras":
        target = folder / f"{stem}{path.suffix}"
        if path.is_dir():
            return Path(shutil.copytree(path, target))
        if path.suffix == ".xml":
            shutil.copyfile(path.with_suffix(".bin"), target.with_suffix(".bin"))
        if path.suffix == ensembles.SUFFIX:
            raise ValueError("it is an ensemble itself; pass its members")
        return Path(shutil.copyfile(path, target))
    network = keras.saving.load_model(path) if isinstance(path, Path) else model
    return tflite(network, folder / f"{stem}.tflite", batch_size="auto", example_inputs=rows)


def described(model: Ensemble, splits: Splits) -> dict[str, Any]:
    """What the manifest tells of an ensemble."""
    networks = [member.model for member in model.members if hasattr(member.model, "count_params")]
    shape, answer = splits.test.input_shape, model.predict(splits.test[:1][0])
    return {
        "name": "ensemble",
        "input_shape": {key: list(part) for key, part in shape.items()} if isinstance(shape, dict) else list(shape),
        "output_shape": list(answer.shape[1:]),
        "weights": sum(network.count_params() for network in networks),
        "recipe": [],
        "how": model.how,
        "members": {member.name: member.kind for member in model.members},
    }
