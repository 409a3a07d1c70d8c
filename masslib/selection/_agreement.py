"""`agreement`: do exported files answer as the model does, on a split of the data?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from masslib.data.subset import class_numbers
from masslib.evaluation.outputs import outputs_and_labels
from masslib.evaluation.tasks import are_probabilities, class_indices, compiled_task

if TYPE_CHECKING:
    from masslib.data import Subset
    from masslib.runtime import Predictor

_MODEL = "model"


def agreement(
    model: Any,
    files: Mapping[str, str | os.PathLike[str] | Predictor],
    data: Subset | tuple[np.ndarray, np.ndarray],
    *,
    batch_size: int = 256,
) -> pd.DataFrame:
    """Compare what exported files answer with what the model answers, on a split of the data.

    Args:
        model: The model that the files were made from: anything with `predict`, such as a Keras model.
        files: Name of the row -> path of an exported file, or a loaded `Predictor`.
        data: A `Subset`, or a pair `(x, y)`, as for `masslib.evaluate`.
        batch_size: Rows per batch of `predict`.

    Returns:
        One row per file, below the row `"model"` of the model itself. Columns: `largest` and `mean` (absolute
        difference of the outputs to those of the model), `top1_agreement` (fraction of rows with the same most
        probable class) and `accuracy` (fraction of rows with the right one). The last two are NaN where the labels are
        no classes.

    Raises:
        FileNotFoundError: If nothing lies at a path.
        ValueError: If `files` is empty or names a row "model", or data and outputs do not fit each other.

    Example:
        >>> import masslib, tempfile
        >>> splits = masslib.data.load("digits")
        >>> model = masslib.models.mlp(splits.input_shape, splits.num_classes)
        >>> path = masslib.export.tflite(model, tempfile.mkdtemp() + "/mlp.tflite")
        >>> table = masslib.agreement(model, {"float": path}, splits.test)
        >>> float(table.loc["float", "top1_agreement"]), bool(table.loc["float", "largest"] < 1e-5)
        (1.0, True)
    """
    if not files or _MODEL in files:
        raise ValueError(f"files={list(files)}: expected at least one, none of them named {_MODEL!r}")
    expected, y, _ = outputs_and_labels(model, data, batch_size)
    task = compiled_task(model)
    classes = class_numbers(y) is not None if task == "auto" else task in ("binary", "multiclass")
    labels = class_indices(y, max(expected.shape[1], 2)) if classes else None
    threshold = 0.5 if are_probabilities(expected) else 0.0
    rows = {_MODEL: _row(expected, expected, labels, threshold)}
    for name, file in files.items():
        found, _, _ = outputs_and_labels(file, data, batch_size)
        if found.shape != expected.shape:
            raise ValueError(f"{name!r} answers with shape {found.shape[1:]}, the model with {expected.shape[1:]}")
        rows[name] = _row(found, expected, labels, threshold)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["largest", "mean", "top1_agreement", "accuracy"])


def _row(found: np.ndarray, expected: np.ndarray, labels: np.ndarray | None, threshold: float) -> tuple[float, ...]:
    difference = np.abs(found - expected)
    size = float(difference.max()), float(difference.mean())
    if labels is None:
        return (*size, float("nan"), float("nan"))
    top = _top1(found, threshold)
    return (*size, float((top == _top1(expected, threshold)).mean()), float((top == labels).mean()))


def _top1(outputs: np.ndarray, threshold: float) -> np.ndarray:
    """The most probable class of each row; a single output above the threshold is class 1."""
    return outputs.argmax(axis=1) if outputs.shape[1] > 1 else (outputs[:, 0] > threshold).astype(int)
