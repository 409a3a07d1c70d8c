"""`outputs_and_labels`: what a model answers to each row of its data, checked."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

_CHUNK_BYTES = 64 * 2**20


def outputs_and_labels(model: Any, data: Any, batch_size: int) -> tuple[np.ndarray, np.ndarray, tuple[str, ...] | None]:
    """Outputs `(n, k)`, labels `(n, ...)` and the names of the classes, with little of the inputs in memory."""
    take, n, classes = _source(data)
    with _predictor(model) as predict:
        outputs, y = _run(predict, take, n, batch_size)
    return outputs, y, classes


def _source(data: Any) -> tuple[Callable[[slice], tuple[Any, Any]], int, tuple[str, ...] | None]:
    """A function from slice to `(x, y)`, the number of rows, and the names of the classes."""
    if isinstance(data, tuple | list):
        if len(data) != 2:
            raise TypeError(f"data is a {type(data).__name__} of {len(data)} items; expected a pair (x, y).")
        x, y = np.asarray(data[0]), np.asarray(data[1])
        if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
            raise ValueError(f"x has shape {x.shape} and y {y.shape}; expected the same number of rows in both.")
        take, n, classes = (lambda rows: (x[rows], y[rows])), len(x), None
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__") and hasattr(data, "y"):
        classes = getattr(data, "classes", None)
        take, n = data.__getitem__, len(data)
    else:
        raise TypeError(f"data is a {type(data).__name__}; expected a Subset, as in splits.test, or a pair (x, y).")
    if n == 0:
        raise ValueError("data has no rows; there is nothing to evaluate.")
    return take, n, None if classes is None else tuple(map(str, classes))


@contextlib.contextmanager
def _predictor(model: Any) -> Iterator[Callable[[np.ndarray, int], Any]]:
    """Yields `predict(x, batch_size)` for a model or for the path of an exported file."""
    with contextlib.ExitStack() as stack:
        if isinstance(model, str | os.PathLike):
            from masslib import runtime

            model = stack.enter_context(contextlib.closing(runtime.load(model)))
        if not callable(getattr(model, "predict", None)):
            raise TypeError(
                f"model is a {type(model).__name__} without predict(); expected a Keras model, a loaded "
                "Predictor or the path of an exported file. Of a compressed result pass its .model."
            )
        known = inspect.signature(model.predict).parameters
        quiet = {"verbose": 0} if "verbose" in known else {}

        def predict(x: np.ndarray, batch_size: int) -> Any:
            sized = {"batch_size": batch_size} if "batch_size" in known else {}
            return model.predict(x, **sized, **quiet)

        yield predict


def _run(predict: Callable, take: Callable, n: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Outputs `(n, k)` and labels of all rows, with one piece of the inputs in memory at a time."""
    row_bytes = max(1, np.asarray(take(slice(0, 1))[0]).nbytes)
    step = max(1, _CHUNK_BYTES // row_bytes // batch_size) * batch_size
    outputs, labels = [], []
    for start in range(0, n, step):
        x, y = take(slice(start, min(start + step, n)))
        outputs.append(_checked(predict(x, batch_size), rows=len(y)))
        labels.append(np.asarray(y))
    return np.concatenate(outputs), np.concatenate(labels)


def _checked(outputs: Any, rows: int) -> np.ndarray:
    """The outputs as finite floats `(rows, k)`."""
    if isinstance(outputs, dict | list | tuple):
        raise TypeError(
            f"predict() gave a {type(outputs).__name__} of {len(outputs)} outputs; evaluate() needs a model "
            "with one output array."
        )
    outputs = np.asarray(outputs)
    if outputs.ndim not in (1, 2) or len(outputs) != rows or outputs.size == 0:
        raise ValueError(
            f"predict() gave shape {outputs.shape} for {rows} rows; expected ({rows},) or ({rows}, outputs)."
        )
    outputs = outputs.astype(np.result_type(outputs.dtype, np.float32)).reshape(rows, -1)
    bad = int((~np.isfinite(outputs).all(axis=1)).sum())
    if bad:
        raise ValueError(
            f"predict() gave NaN or infinite outputs in {bad} of {rows} rows; look for a diverged training "
            "(NaN in the weights) or NaN in the input."
        )
    return outputs
