"""Does an exported file answer as the model does?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from masslib import runtime

if TYPE_CHECKING:
    import pandas as pd

    from masslib.data import Subset

# Kind and size of the relative difference that each precision allows. Rounding of single weights shows in the
# largest difference; quantization noise is judged by its mean, since one uncertain image may well flip.
ALLOWED: dict[str, tuple[str, float]] = {
    "float32": ("largest", 1e-4),
    "float16": ("largest", 2e-2),
    "bfloat16": ("mean", 3e-2),
    "dynamic": ("mean", 3e-2),
    "int8": ("mean", 5e-2),
    "int16x8": ("mean", 3e-2),
    "int4": ("mean", 1e-1),
}
_ROWS = 64
_MODEL = "model"


def check(path: Path, model: Any, precision: str = "float32", inputs: np.ndarray | None = None) -> None:
    """Run the file at `path` and the model on the same rows and compare what they answer.

    Args:
        path: The exported file or folder.
        model: The Keras 3 or tf_keras model it was made from.
        precision: One of `ALLOWED`; decides how large the difference may be, relative to the largest output.
        inputs: Rows `(n, *input_shape)` to compare on, of which 64 are used; random ones in [0, 1] if absent.

    Raises:
        ValueError: If they disagree by more than the precision allows.
    """
    import tensorflow as tf

    if inputs is None:
        shape = (_ROWS, *(size or 8 for size in model.inputs[0].shape[1:]))
        inputs = np.random.default_rng(0).random(shape, "float32")
    inputs = inputs[:_ROWS]
    (expected,) = (answer.numpy() for answer in tf.nest.flatten(model(inputs, training=False)))
    with runtime.load(path) as predictor:
        found = predictor.predict(inputs)
    kind, allowed = ALLOWED[precision]
    difference = np.abs(found - expected) / max(float(np.abs(expected).max()), 1e-30)
    size = float(difference.max() if kind == "largest" else difference.mean())
    if not size <= allowed:
        raise ValueError(
            f"the {precision} file disagrees with model {model.name!r}: {kind} relative difference {size:.3g}, "
            f"allowed {allowed:g}, on {len(inputs)} rows; nothing was written"
        )


def agreement(
    model: Any,
    files: Mapping[str, str | os.PathLike[str] | runtime.Predictor],
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
        >>> table = masslib.export.agreement(model, {"float": path}, splits.test)
        >>> float(table.loc["float", "top1_agreement"]), bool(table.loc["float", "largest"] < 1e-5)
        (1.0, True)
    """
    import pandas as pd

    # Not at the top: evaluation stands above export, and loads scikit-learn.
    from masslib.data.subset import class_numbers
    from masslib.evaluation.outputs import outputs_and_labels
    from masslib.evaluation.scores import are_probabilities
    from masslib.evaluation.tasks import class_indices, compiled_task

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
