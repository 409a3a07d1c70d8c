"""Which task outputs and labels are of, and whether the labels fit it."""

from __future__ import annotations

import numpy as np

TASKS = ("auto", "multiclass", "binary", "regression")


def pick_task(task: str, outputs: np.ndarray, y: np.ndarray) -> str:
    """The task that outputs `(n, k)` and labels allow, or an error."""
    k = outputs.shape[1]
    _check_labels(y, task)
    if task == "auto" and k == 1:
        if np.isin(y, (0, 1)).all():
            return "binary"
        if y.dtype.kind != "f":
            raise ValueError(
                f"The model has one output, but y has whole numbers from {y.min()} to {y.max()}: pass "
                "task='regression' if they are quantities; for classes the model needs one output per class."
            )
        return "regression"
    if task == "auto":
        if y.dtype.kind == "f" and y.shape != outputs.shape:
            raise ValueError(
                f"The model has {k} outputs, but y has {y.dtype} labels of shape {y.shape}; for classes pass "
                "integer labels, y.astype(int)."
            )
        return "regression" if y.dtype.kind == "f" else "multiclass"
    if task == "multiclass" and k == 1:
        raise ValueError("task is 'multiclass', but the model has one output; expected one per class.")
    if task == "binary" and k > 2:
        raise ValueError(f"task is 'binary', but the model has {k} outputs; expected 1 (or a softmax of 2).")
    return task


def class_indices(y: np.ndarray, k: int) -> np.ndarray:
    """Labels as integers `(n,)` in [0, k)."""
    if y.size != len(y):
        raise ValueError(f"y has shape {y.shape}; expected one class index per row.")
    y = y.reshape(-1)
    indices = y.astype(np.int64)
    if (indices != y).any():
        raise ValueError("y has fractional labels; expected class indices, or task='regression'.")
    if indices.min() < 0 or indices.max() >= k:
        raise ValueError(
            f"y has labels from {indices.min()} to {indices.max()}, but the model tells {k} classes apart; "
            f"expected labels from 0 to {k - 1}."
        )
    return indices


def _check_labels(y: np.ndarray, task: str) -> None:
    if y.dtype.kind not in "iubf":
        raise TypeError(f"y has dtype {y.dtype}; expected class indices (integers) or quantities (floats).")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError("y contains NaN or infinite labels; remove those rows.")
    wide = y.ndim == 2 and y.shape[1] > 1 and task != "regression"
    if wide and np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all():
        raise ValueError(f"y of shape {y.shape} is one-hot; pass the class indices, y.argmax(axis=1).")
