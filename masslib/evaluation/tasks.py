"""Which task outputs and labels are of, and whether the labels fit it."""

from __future__ import annotations

from typing import Any

import numpy as np

TASKS = ("auto", "multiclass", "binary", "multilabel", "regression")

# What a compiled loss says of the task; of two, the number of outputs decides. Names are those of Keras' classes and
# functions, without underscores.
_LOSSES = {
    "multiclass": (
        "sparsecategoricalcrossentropy",
        "categoricalcrossentropy",
        "categoricalfocalcrossentropy",
        "categoricalhinge",
    ),
    "binary or multilabel": ("binarycrossentropy", "binaryfocalcrossentropy", "bce", "hinge", "squaredhinge"),
    "regression": (
        *("meansquarederror", "mse", "meanabsoluteerror", "mae", "huber", "logcosh", "poisson"),
        *("meanabsolutepercentageerror", "mape", "meansquaredlogarithmicerror", "msle"),
    ),
}


def compiled_task(model: Any) -> str:
    """The task that the loss of a compiled model names, `"auto"` if it names none.

    Example:
        >>> import masslib
        >>> model = masslib.models.mlp((4,), 3)
        >>> model.compile(loss="sparse_categorical_crossentropy")
        >>> compiled_task(model)
        'multiclass'
    """
    shape = getattr(model, "output_shape", None)
    return _named(model, shape[-1] if isinstance(shape, tuple) and shape else None) or "auto"


def pick_task(task: str, model: Any, outputs: np.ndarray, y: np.ndarray, classes: tuple[str, ...] | None) -> str:
    """The task of outputs `(n, k)` and labels `(n, ...)`: the one passed, compiled, or the only one that fits."""
    k = outputs.shape[1]
    _check_values(y)
    if task == "auto":
        task = _named(model, k) or _only(_fitting(outputs, y, named=classes is not None), outputs, y)
    if task in ("multiclass", "multilabel") and k == 1:
        raise ValueError(f"task is {task!r}, but the model has one output; expected one per class.")
    if task == "binary" and k > 2:
        raise ValueError(f"task is 'binary', but the model has {k} outputs; expected 1 (or a softmax of 2).")
    return task


def _named(model: Any, outputs: int | None) -> str | None:
    """The task that a compiled loss names, if it is one of Keras' own."""
    loss = getattr(model, "loss", None)
    if isinstance(loss, dict | list | tuple):
        losses = list(loss.values()) if isinstance(loss, dict) else list(loss)
        loss = losses[0] if len(losses) == 1 else None
    kind = loss if callable(loss) and hasattr(loss, "__name__") else type(loss)
    if not isinstance(loss, str) and not kind.__module__.startswith(("keras.", "tf_keras.")):
        return None
    name = (loss if isinstance(loss, str) else kind.__name__).lower().replace("_", "")
    task = next((task for task, names in _LOSSES.items() if name in names), None)
    if task == "binary or multilabel":
        return None if outputs is None else "binary" if outputs == 1 else "multilabel"
    return task


def _fitting(outputs: np.ndarray, y: np.ndarray, *, named: bool) -> list[str]:
    """The tasks that outputs `(n, k)` and labels can be of; those with named classes are no quantities."""
    k, one_each = outputs.shape[1], y.size == len(y)
    alike = y.reshape(len(y), -1).shape == outputs.shape
    flags = bool(np.isin(y, (0, 1)).all())
    indices = one_each and bool((y == np.floor(y)).all() and y.min() >= 0 and y.max() < k)
    fits = {
        "multiclass": k > 1 and (indices or (alike and is_one_hot(y))),
        "binary": k == 1 and one_each and (flags or is_signs(y)),
        "multilabel": k > 1 and alike and flags,
        "regression": alike and y.dtype.kind != "b" and not named,
    }
    return [task for task, fit in fits.items() if fit]


def _only(tasks: list[str], outputs: np.ndarray, y: np.ndarray) -> str:
    if len(tasks) == 1:
        return tasks[0]
    k = outputs.shape[1]
    if not tasks and k > 1 and y.size == len(y):
        class_indices(y, k)  # says what is wrong with them
    kind = f"y has {y.dtype} labels of shape {y.shape} from {y.min()} to {y.max()} and the model {k} outputs per row"
    if not tasks:
        raise ValueError(
            f"{kind}; no task fits. Expected class indices (n,), labels (n, {k}) of 0 and 1, or quantities (n, {k})."
        )
    raise ValueError(
        f"{kind}; that fits {' and '.join(map(repr, tasks))}, and no compiled loss tells which. Pass one of them, such "
        f"as task={tasks[0]!r}."
    )


def is_one_hot(y: np.ndarray) -> bool:
    """Whether each row `(k,)` holds one 1 and zeros."""
    return y.ndim == 2 and bool(np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all())


def is_signs(y: np.ndarray) -> bool:
    """Whether labels are -1 and 1, as those of a hinge loss are."""
    return bool(np.isin(y, (-1, 1)).all() and (y == -1).any())


def class_indices(y: np.ndarray, k: int) -> np.ndarray:
    """Labels as integers `(n,)` in [0, k); of one-hot labels, where the 1 stands, and of -1 and 1, 0 and 1."""
    if y.shape == (len(y), k) and is_one_hot(y):
        return y.argmax(axis=1)
    if y.size != len(y):
        raise ValueError(f"y has shape {y.shape}; expected one class index per row, or one-hot labels (n, {k}).")
    y = y.reshape(-1)
    if k == 2 and is_signs(y):
        return (y > 0).astype(np.int64)
    indices = y.astype(np.int64)
    if (indices != y).any():
        raise ValueError("y has fractional labels; expected class indices, or task='regression'.")
    if indices.min() < 0 or indices.max() >= k:
        raise ValueError(
            f"y has labels from {indices.min()} to {indices.max()}, but the model tells {k} classes apart; "
            f"expected labels from 0 to {k - 1}. Leave rows of a void class out."
        )
    return indices


def _check_values(y: np.ndarray) -> None:
    if y.dtype.kind not in "iubf":
        raise TypeError(f"y has dtype {y.dtype}; expected class indices (integers) or quantities (floats).")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError("y contains NaN or infinite labels; remove those rows.")
