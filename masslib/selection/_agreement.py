"""`agreement`: do exported files answer as the model does, on a split of the data?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from masslib.data.subset import class_numbers
from masslib.evaluation.outputs import Source, of_output, pieces, source_of
from masslib.evaluation.tasks import are_probabilities, class_indices, compiled_options

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
        One row per file, below the row `"model"` of the model itself; of several outputs one per `(file, output)`.
            Columns: `largest` and `mean` (absolute
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
    source = source_of(data)
    expected, labels = _answers(model, source, batch_size)
    told = compiled_options(model)
    task, ignored = told["task"], told.get("ignore_class")
    judged = {
        name: _Judged(answer, labels.get(name), of_output(task, name, "auto"), of_output(ignored, name))
        for name, answer in expected.items()
    }
    rows = {(_MODEL, name): it.row(it.expected) for name, it in judged.items()}
    for file_name, file in files.items():
        found = _aligned(file_name, _answers(file, source, batch_size)[0], expected)
        rows |= {(file_name, name): it.row(found[name]) for name, it in judged.items()}
    columns = ["largest", "mean", "top1_agreement", "accuracy"]
    table = pd.DataFrame(list(rows.values()), pd.MultiIndex.from_tuples(rows, names=["file", "output"]), columns)
    return table if len(judged) > 1 else table.droplevel("output").rename_axis(None)


def _answers(model: Any, source: Source, batch_size: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The outputs of all rows and the labels, each by the name of the output."""
    parts = list(pieces(model, source, batch_size))
    outputs, labels = [part.outputs for part in parts], [part.y for part in parts]
    return _joined(outputs), _joined(labels)


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _aligned(file: str, found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of a file under the names that they have in the model."""
    if set(found) != set(expected) and len(found) == len(expected):
        found = dict(zip(expected, found.values(), strict=True))
    for name, answer in expected.items():
        if name not in found:
            raise ValueError(f"{file!r} answers {', '.join(found)}, the model {', '.join(expected)}")
        if found[name].shape != answer.shape:
            which = f" for output {name!r}" if name else ""
            raise ValueError(
                f"{file!r} answers with shape {found[name].shape[1:]}{which}, the model with {answer.shape[1:]}"
            )
    return found


class _Judged:
    """What a model answers in one output, and the classes that would be right."""

    def __init__(self, expected: np.ndarray, y: np.ndarray | None, task: str, ignore: int | None):
        self.expected = expected
        # Rows whose label stands for no class are right or wrong in nothing.
        flat = ignore is not None and y is not None and y.size == len(y)
        self._kept = y.reshape(-1) != ignore if flat else slice(None)  # type: ignore[union-attr]
        y = y if y is None else y[self._kept]
        self._threshold = 0.5 if are_probabilities(expected) else 0.0
        classes = class_numbers(y) is not None if task == "auto" else task in ("binary", "multiclass")
        fits = y is not None and expected.ndim <= 2
        self._columns = expected.reshape(len(expected), -1).shape[1]
        self._labels = class_indices(y, max(self._columns, 2)) if classes and fits else None

    def row(self, found: np.ndarray) -> tuple[float, ...]:
        """The figures of a file that answers so."""
        difference = np.abs(found - self.expected)
        size = float(difference.max()), float(difference.mean())
        if self._labels is None:
            return (*size, float("nan"), float("nan"))
        top = self._top1(found)
        agreed = float((top == self._top1(self.expected)).mean())
        return (*size, agreed, float((top[self._kept] == self._labels).mean()))

    def _top1(self, outputs: np.ndarray) -> np.ndarray:
        """The most probable class of each row; a single output above the threshold is class 1."""
        if self._columns > 1:
            return outputs.argmax(axis=1)
        return (outputs.reshape(-1) > self._threshold).astype(int)
