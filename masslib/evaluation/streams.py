"""Figures that are sums over rows, pixels or tokens: kept as sums, so that outputs of any size need little memory."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from scipy.special import log_softmax

from masslib.evaluation import counts as of
from masslib.evaluation.classes import per_class
from masslib.evaluation.intervals import GROUPS, groups_of, jackknife, without_each
from masslib.evaluation.result import Evaluation
from masslib.evaluation.tasks import are_probabilities, is_signs

# Outputs per row up to which R2 has an interval, which takes three numbers for each output and group of rows
_WIDEST = 1000
# Keras' epsilon: the least probability that a cross-entropy is taken of
_EPSILON = 1e-7


class Regression:
    """Errors of quantities `(rows, ...)`, of any shape."""

    def __init__(self, n: int, shape: tuple[int, ...], classes: tuple[str, ...] | None, ignore: int | None):
        self._n, self._groups, self._width = n, groups_of(n), math.prod(shape)
        parts = min(n, GROUPS)
        self._errors = np.zeros((parts, 3))  # of weights, absolute errors, squared errors
        self._outputs = np.zeros((parts if self._width <= _WIDEST else 1, 4, self._width))
        self._middle: np.ndarray | None = None

    def add(self, rows: slice, outputs: np.ndarray, y: np.ndarray, weights: np.ndarray | None, *_: Any) -> None:
        """Add some rows."""
        shape = y.shape
        y, answers = y.reshape(len(y), -1).astype(float), outputs.reshape(len(outputs), -1)
        if y.shape != answers.shape:
            raise ValueError(
                f"The model gives {outputs.shape[1:]} per row, but y has {shape[1:]}; expected quantities of one shape."
            )
        shares = np.ones((len(y), 1)) if weights is None else weights.reshape(len(y), -1)
        if shares.shape[1] not in (1, self._width):
            raise ValueError(f"weights of shape {weights.shape} do not fit quantities of shape {outputs.shape}")
        groups, error = self._groups[rows], answers - y
        for place, values in enumerate((np.ones_like(error), np.abs(error), error**2)):
            self._errors[:, place] += np.bincount(groups, (shares * values).mean(axis=1), len(self._errors))
        # Around the first mean, because squares of large numbers leave no digits for their differences.
        self._middle = y.mean(axis=0) if self._middle is None else self._middle
        around = y - self._middle
        parts = groups if len(self._outputs) > 1 else np.zeros_like(groups)
        for place, values in enumerate((np.ones_like(error), around, around**2, error**2)):
            np.add.at(self._outputs[:, place], parts, shares * values)

    def result(self) -> Evaluation:
        """The figures of all rows."""
        figures = {
            "mae": lambda it: it[..., 1] / it[..., 0],
            "rmse": lambda it: np.sqrt(np.maximum(it[..., 2], 0) / it[..., 0]),
        }
        without = {name: without_each(figure, self._errors) for name, figure in figures.items() if self._n > 1}
        if self._n > 1 and self._width <= _WIDEST:
            without["r2"] = without_each(_r2, self._outputs)
        if self._n < 2:
            warnings.warn("R2 is undefined for less than 2 rows", RuntimeWarning, stacklevel=3)
        return Evaluation(
            task="regression",
            n=self._n,
            **{name: float(figure(self._errors.sum(axis=0))) for name, figure in figures.items()},
            r2=float(_r2(self._outputs.sum(axis=0))) if self._n > 1 else math.nan,
            without=without,
            units=self._n,
        )


def _r2(sums: np.ndarray) -> np.ndarray:
    """Coefficient of determination, the mean over outputs; of constant ones 1 if they are hit, else 0."""
    weight, total, squares, errors = np.moveaxis(sums, -2, 0)
    spread = squares - total**2 / np.maximum(weight, 1e-300)
    constant = spread <= 1e-12 * np.maximum(squares, 1e-300)
    hit = np.where(errors <= 0, 1.0, 0.0)
    return np.where(constant, hit, 1 - errors / np.where(constant, 1, spread)).mean(axis=-1)


class Segmentation:
    """Classes `(rows, ...)` of pixels from outputs `(rows, ..., k)`; with one output, of two classes."""

    def __init__(self, n: int, shape: tuple[int, ...], classes: tuple[str, ...] | None, ignore: int | None):
        self._n, self._shape, self._classes, self._ignore = n, shape, classes, ignore
        self._k, self._groups = max(shape[-1], 2), groups_of(n)
        self._sums = of.no_counts(n, self._k)
        self._confusion = np.zeros((self._k, self._k))
        self._pixels, self._weighted = 0, False

    def add(self, rows: slice, outputs: np.ndarray, y: np.ndarray, weights: np.ndarray | None, *_: Any) -> None:
        """Add some rows."""
        y, kept = labels_of_places(y, outputs.shape, self._k, self._ignore, one_hot=True)
        if self._shape[-1] == 1:
            predicted = (outputs[..., 0] > (0.5 if are_probabilities(outputs) else 0)).astype(np.int64)
        else:
            predicted = outputs.argmax(axis=-1)
        groups = _spread_over(self._groups[rows], y.shape)[kept]
        shares = None if weights is None else _spread_over(weights, y.shape)[kept]
        y, predicted = y[kept], predicted[kept]
        of.count_classes(self._sums, y, predicted, groups, shares)
        self._confusion += np.bincount(self._k * y + predicted, shares, self._k**2).reshape(self._k, self._k)
        self._pixels, self._weighted = self._pixels + len(y), self._weighted or weights is not None

    def result(self) -> Evaluation:
        """The figures of all rows."""
        _check_some(self._pixels, self._ignore)
        total = self._sums.sum(axis=0)
        table = per_class(total, self._classes).rename(columns={"rows": "pixels"})
        table.insert(0, "iou", of.intersection_over_union(total))
        figures = {"accuracy": of.accuracy, "mean_iou": lambda it: of.mean_of_present(of.intersection_over_union(it))}
        without = {name: without_each(figure, self._sums) for name, figure in figures.items()}
        accuracy = float(of.accuracy(total))
        return Evaluation(
            task="segmentation",
            n=self._n,
            accuracy=accuracy,
            accuracy_interval=jackknife(accuracy, without["accuracy"], self._n),
            mean_iou=float(figures["mean_iou"](total)),
            counted=self._pixels,
            confusion=self._confusion if self._weighted else self._confusion.astype(np.int64),
            per_class=table,
            classes=self._classes,
            without=without,
            units=self._n,
        )


class Tokens:
    """Tokens `(rows, length)` from probabilities or logits `(rows, length, k)`."""

    def __init__(self, n: int, shape: tuple[int, ...], classes: tuple[str, ...] | None, ignore: int | None):
        self._n, self._k, self._classes, self._ignore = n, shape[-1], classes, ignore
        self._groups = groups_of(n)
        self._sums = np.zeros((min(n, GROUPS), 3))  # of weights, right ones, cross-entropies
        self._tokens = 0
        self._probable: bool | None = None

    def add(self, rows: slice, outputs: np.ndarray, y: np.ndarray, weights: np.ndarray | None, *_: Any) -> None:
        """Add some rows."""
        y, kept = labels_of_places(y, outputs.shape, self._k, self._ignore, one_hot=True)
        groups = _spread_over(self._groups[rows], y.shape)[kept]
        shares = np.ones(len(groups)) if weights is None else _spread_over(weights, y.shape)[kept]
        y, outputs = y[kept], outputs[kept]
        if not len(y):
            return
        probable = are_probabilities(outputs) and 0.5 < float(outputs.sum(axis=-1).mean()) < 2
        if self._probable not in (None, probable):
            raise ValueError("some outputs are probabilities and others are not; expected all of one kind")
        self._probable = probable
        chosen = np.arange(len(y)), y
        if probable:
            loss = -np.log(np.clip(outputs[chosen] / outputs.sum(axis=-1), _EPSILON, 1 - _EPSILON))
        else:
            loss = -log_softmax(outputs, axis=-1)[chosen]
        for place, values in enumerate((1, outputs.argmax(axis=-1) == y, loss)):
            self._sums[:, place] += np.bincount(groups, shares * values, len(self._sums))
        self._tokens += int((shares > 0).sum())

    def result(self) -> Evaluation:
        """The figures of all rows."""
        _check_some(self._tokens, self._ignore)
        figures = {
            "accuracy": lambda it: np.divide(it[..., 1], it[..., 0]),
            "perplexity": lambda it: np.exp(it[..., 2] / it[..., 0]),
        }
        with np.errstate(invalid="ignore", over="ignore"):
            without = {name: without_each(figure, self._sums) for name, figure in figures.items()}
            found = {name: float(figure(self._sums.sum(axis=0))) for name, figure in figures.items()}
        return Evaluation(
            task="tokens",
            n=self._n,
            **found,
            accuracy_interval=jackknife(found["accuracy"], without["accuracy"], self._n),
            counted=self._tokens,
            classes=self._classes,
            without=without,
            units=self._n,
        )


def labels_of_places(
    y: np.ndarray, shape: tuple[int, ...], k: int, ignore: int | None, *, one_hot: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Class indices of places `(rows, ...)` for outputs `(rows, ..., k)`, and which count, `(rows, ...)`.

    Raises:
        ValueError: If the shapes do not fit, or a label is none of the classes.
    """
    if y.shape == shape and shape[-1] > 1 and one_hot:
        if not (np.isin(y, (0, 1)).all() and (y.sum(axis=-1) == 1).all()):
            raise ValueError(
                f"y of shape {y.shape} is neither class indices nor one-hot; for quantities pass task='regression'."
            )
        y = y.argmax(axis=-1)
    elif y.shape == (*shape[:-1], 1):
        y = y[..., 0]
    if y.shape != shape[:-1]:
        raise ValueError(f"y has shape {y.shape}; expected class indices {shape[:-1]} for outputs of shape {shape}.")
    kept = np.ones(y.shape, bool) if ignore is None else y != ignore
    labels = y[kept]
    if k == 2 and is_signs(labels):
        y, labels = (y > 0).astype(np.int64), (labels > 0).astype(np.int64)
    wrong = (labels < 0) | (labels >= k) | (labels != np.floor(labels))
    if wrong.any():
        raise ValueError(
            f"y has the label {labels[wrong][0]}; expected class indices from 0 to {k - 1}. Pass the label of what has "
            "no class as ignore_class, and task='regression' if these are quantities."
        )
    return np.where(kept, y, 0).astype(np.int64), kept


def _spread_over(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """One value per row, or per place, for every place."""
    if values.shape == (*shape, 1):
        values = values[..., 0]
    if values.shape not in (shape, shape[:1], (shape[0], *(1 for _ in shape[1:]))):
        raise ValueError(f"sample_weight has shape {values.shape}; expected {shape[:1]} or {shape}")
    return np.broadcast_to(values.reshape(*values.shape, *(1,) * (len(shape) - values.ndim)), shape)


def _check_some(counted: int, ignore: int | None) -> None:
    if not counted:
        raise ValueError(f"no label is left to judge; all are the ignored class {ignore} or have no weight")
