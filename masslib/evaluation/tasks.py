"""Which task outputs and labels are of, and whether the labels fit it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from masslib.evaluation.outputs import named, output_names
from masslib.evaluation.result import FIGURES

TASKS = ("auto", *FIGURES)

# Quantized probabilities leave [0, 1] by rounding, logits by far more.
_ROUNDING = 1e-2

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


def compiled_task(model: Any) -> str | dict[str, str]:
    """The task that the loss of a compiled model names, `"auto"` if it names none; of several outputs, by their names.

    Example:
        >>> import masslib
        >>> model = masslib.models.mlp((4,), 3)
        >>> model.compile(loss="sparse_categorical_crossentropy")
        >>> compiled_task(model)
        'multiclass'
    """
    outputs = _outputs(model)
    losses = _losses(model, list(outputs))
    tasks = {name: _named(losses[name], getattr(it, "shape", None)) or "auto" for name, it in outputs.items()}
    return tasks[""] if list(tasks) == [""] else tasks


def compiled_options(model: Any) -> dict[str, Any]:
    """What the loss of a compiled model tells `evaluate` of its files: `task`, and `ignore_class` if there is one.

    Of several outputs both are dicts by their names.
    """
    losses = _losses(model, list(_outputs(model)))
    ignored = {name: getattr(loss, "ignore_class", None) for name, loss in losses.items()}
    ignored = {name: label for name, label in ignored.items() if label is not None}
    told = {"ignore_class": ignored.get("", ignored)} if ignored else {}  # an output that is alone is called ""
    return {"task": compiled_task(model), **told}


@dataclass(frozen=True)
class About:
    """What tells the task of an output.

    Attributes:
        task: As passed.
        model: What answered; its compiled loss is asked.
        name: Name of the output.
        names: Names of all outputs.
        shape: Shape of some rows of it, `(rows, ...)`.
        classes: Whether the classes have names, so that labels are no quantities.
        ignore: The label of what has no class, or None.
    """

    task: str
    model: Any
    name: str
    names: list[str]
    shape: tuple[int, ...]
    classes: bool
    ignore: int | None


def pick_task(about: About, labels: Callable[[], np.ndarray]) -> str:
    """The task that was passed or compiled, or the only one that fits, for which all labels are asked for.

    Raises:
        ValueError: If none or several fit, or the outputs are not of the task.
    """
    task, shape = about.task, about.shape
    if task == "auto":
        task = _named(_losses(about.model, about.names).get(about.name), shape) or _only(about, labels())
    rank, k = len(shape), shape[-1] if len(shape) > 1 else 1
    if task in ("multiclass", "binary", "multilabel", "out_of_scope") and rank > 2:
        raise ValueError(
            f"task is {task!r}, but the model gives outputs of shape {shape[1:]} per row; expected (k,). Classes of "
            "pixels are task='segmentation', those of tokens task='tokens'."
        )
    if task in ("multiclass", "multilabel", "out_of_scope", "tokens") and k == 1:
        raise ValueError(f"task is {task!r}, but the model has one output; expected one per class.")
    if task == "binary" and k > 2:
        raise ValueError(f"task is 'binary', but the model has {k} outputs; expected 1 (or a softmax of 2).")
    if task in ("segmentation", "tokens") and rank < 3:
        raise ValueError(
            f"task is {task!r}, but the model gives outputs of shape {shape[1:]} per row; expected (..., k)."
        )
    return task


def _network(model: Any) -> Any:
    """The Keras model of a `Compressed` one, which tells of skipped layers; an `Ensemble` is exported like one."""
    return model.model if hasattr(model, "skipped") else model


def _outputs(model: Any) -> dict[str, Any]:
    """The symbolic outputs of a Keras model by name; None for one that does not know them before it is called."""
    model = _network(model)
    found = getattr(model, "output", None)
    return named(getattr(model, "outputs", None) if found is None else found, output_names(model))


def _losses(model: Any, names: list[str]) -> dict[str, Any]:
    """The compiled loss of each output; None where there is none."""
    loss = getattr(_network(model), "loss", None)
    if isinstance(loss, dict):
        flat = named(loss, None)
        return (
            dict.fromkeys(names, *flat.values())
            if names == [""] and len(flat) == 1
            else {name: flat.get(name) for name in names}
        )
    if isinstance(loss, list | tuple):
        losses = list(named(loss, None).values())
        return dict(zip(names, losses, strict=True)) if len(losses) == len(names) else dict.fromkeys(names)
    return dict.fromkeys(names, loss)


def _named(loss: Any, shape: tuple[int | None, ...] | None) -> str | None:
    """The task that a loss of Keras' own names for outputs of this shape, the batch included."""
    kind = loss if callable(loss) and hasattr(loss, "__name__") else type(loss)
    if not isinstance(loss, str) and not kind.__module__.startswith(("keras.", "tf_keras.")):
        return None
    name = (loss if isinstance(loss, str) else kind.__name__).lower().replace("_", "")
    task = next((task for task, names in _LOSSES.items() if name in names), None)
    if task in (None, "regression"):
        return task
    if shape is None:
        return task if task == "multiclass" else None
    rank, k = len(shape), shape[-1] if len(shape) > 1 else 1
    if task == "multiclass":
        return "multiclass" if rank < 3 else "tokens" if rank == 3 else "segmentation"
    if rank < 3:
        return "binary" if k == 1 else "multilabel"
    return "segmentation" if k == 1 else None


def _fitting(shape: tuple[int, ...], y: np.ndarray, *, named: bool) -> list[str]:
    """The tasks that outputs of this shape and labels `(n, ...)` can be of; named classes are no quantities."""
    rank, k = len(shape), shape[-1] if len(shape) > 1 else 1
    whole, flags = bool((y == np.floor(y)).all()), bool(np.isin(y, (0, 1)).all())
    if rank > 2:
        alike, classes = y.shape[1:] == shape[1:], whole and y.shape[1:] in (shape[1:-1], (*shape[1:-1], 1))
        fits = {
            "tokens": rank == 3 and k > 1 and classes,
            "segmentation": (rank > 3 or k == 1) and classes and (k > 1 or flags),
            "regression": alike and not named,
        }
    else:
        alike = y.reshape(len(y), -1).shape[1] == k
        indices = whole and y.size == len(y) and y.min() >= 0 and y.max() < k
        fits = {
            "multiclass": k > 1 and (indices or (alike and is_one_hot(y))),
            "binary": k == 1 and y.size == len(y) and (flags or is_signs(y)),
            "multilabel": k > 1 and alike and flags,
            "regression": alike and y.dtype.kind != "b" and not named,
        }
    return [task for task, fit in fits.items() if fit]


def _only(about: About, y: np.ndarray) -> str:
    """The one task that fits outputs and labels `(n, ...)`."""
    check_labels(y)
    shape = about.shape
    kept = y[y != about.ignore] if about.ignore is not None and y.ndim == 1 else y
    tasks = _fitting(shape, kept, named=about.classes)
    if len(tasks) == 1:
        return tasks[0]
    k = shape[-1] if len(shape) > 1 else 1
    if not tasks and len(shape) == 2 and k > 1 and kept.size == len(kept):
        class_indices(kept, k)  # says what is wrong with them
    what = f"{k} outputs" if len(shape) < 3 else f"outputs {shape[1:]}"
    kind = f"y has {y.dtype} labels of shape {y.shape} from {y.min()} to {y.max()} and the model {what} per row"
    if not tasks:
        places = ", ..." if len(shape) > 2 else ""
        raise ValueError(
            f"{kind}; no task fits. Expected class indices (n{places or ','}), labels (n{places}, {k}) of 0 and 1, or "
            f"quantities (n{places}, {k}). A label that stands for no class is passed as ignore_class."
        )
    raise ValueError(
        f"{kind}; that fits {' and '.join(map(repr, tasks))}, and no compiled loss tells which. Pass one of them, such "
        f"as task={tasks[0]!r}."
    )


def are_probabilities(outputs: np.ndarray) -> bool:
    """Whether all outputs lie in [0, 1]."""
    return bool(outputs.min() >= -_ROUNDING and outputs.max() <= 1 + _ROUNDING)


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
            f"expected labels from 0 to {k - 1}. Pass the label of rows without a class as ignore_class."
        )
    return indices


def check_labels(y: np.ndarray) -> None:
    """Raise unless labels are numbers, and finite."""
    if y.dtype.kind not in "iubf":
        raise TypeError(f"y has dtype {y.dtype}; expected class indices (integers) or quantities (floats).")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError("y contains NaN or infinite labels; remove those rows.")
