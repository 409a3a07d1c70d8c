"""Figures of rows that belong to classes: multiclass, binary, multilabel, and whether a row is in scope at all."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, softmax
from sklearn import metrics

from masslib.evaluation import counts as of
from masslib.evaluation.calibration import calibration_error, reliability
from masslib.evaluation.intervals import groups_of, jackknife, wilson, without_each
from masslib.evaluation.ranks import auc_without_each
from masslib.evaluation.result import Evaluation
from masslib.evaluation.tasks import are_probabilities, class_indices, is_signs

if TYPE_CHECKING:
    import pandas as pd

Names = tuple[str, ...] | None
Weights = np.ndarray | None
_NAMED = 10


def multiclass(outputs: np.ndarray, y: np.ndarray, weights: Weights, classes: Names) -> Evaluation:
    """Figures of outputs `(n, k)` and class indices or one-hot labels."""
    k = outputs.shape[1]
    y, predicted = class_indices(y, k), outputs.argmax(axis=1)
    scores = outputs if are_probabilities(outputs) else softmax(outputs, axis=1)
    auc, parts = _auc(y[:, None] == np.arange(k), scores, weights, classes, "row")
    bins = reliability(scores.max(axis=1), y == predicted, weights)
    accuracy, whole = _accuracy(y == predicted, weights)
    sums = _counts(y, predicted, k, weights)
    return Evaluation(
        task="multiclass",
        **accuracy,
        confusion=metrics.confusion_matrix(y, predicted, labels=np.arange(k), sample_weight=weights),
        macro_f1=float(metrics.f1_score(y, predicted, average="macro", zero_division=0, sample_weight=weights)),
        auc=auc,
        ece=calibration_error(bins),
        reliability=bins,
        per_class=per_class(sums.sum(axis=0), classes),
        classes=classes,
        without=whole | parts | _spread(sums, macro_f1=lambda it: of.mean_of_present(of.f1(it))),
    )


def binary(outputs: np.ndarray, y: np.ndarray, weights: Weights, classes: Names) -> Evaluation:
    """Figures of outputs `(n, 1)` or of a softmax `(n, 2)`, and labels of 0 and 1, or of -1 and 1."""
    signs = is_signs(y)
    y = class_indices(y, 2)
    probable = are_probabilities(outputs) and not signs
    if outputs.shape[1] == 2:
        score, threshold = outputs[:, 1] - outputs[:, 0], 0.0
        chance = outputs[:, 1] if probable else expit(score)
    else:
        score, threshold = outputs[:, 0], 0.5 if probable else 0.0
        chance = score if probable else expit(score)
    predicted = (score > threshold).astype(np.int64)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        y, predicted, average="binary", zero_division=0, sample_weight=weights
    )
    auc, parts = _auc(y[:, None] == [0, 1], np.stack([-score, score], axis=1), weights, classes, "row")
    bins = None if signs else reliability(np.maximum(chance, 1 - chance), y == predicted, weights)
    accuracy, whole = _accuracy(y == predicted, weights)
    sums = _counts(y, predicted, 2, weights)
    return Evaluation(
        task="binary",
        **accuracy,
        confusion=metrics.confusion_matrix(y, predicted, labels=[0, 1], sample_weight=weights),
        precision=float(precision),
        recall=float(recall),
        f1=float(f1),
        auc=auc,
        ece=None if bins is None else calibration_error(bins),
        reliability=bins,
        per_class=per_class(sums.sum(axis=0), classes),
        classes=classes,
        without=whole
        | parts
        | _spread(
            sums,
            precision=lambda it: of.precision(it)[..., 1],
            recall=lambda it: of.recall(it)[..., 1],
            f1=lambda it: np.nan_to_num(of.f1(it)[..., 1]),
        ),
    )


def multilabel(outputs: np.ndarray, y: np.ndarray, weights: Weights, classes: Names) -> Evaluation:
    """Figures of outputs `(n, k)` and as many labels of 0 and 1."""
    if y.shape != outputs.shape or not np.isin(y, (0, 1)).all():
        raise ValueError(
            f"y has shape {y.shape} and values from {y.min()} to {y.max()}; expected labels of 0 and 1, "
            f"{outputs.shape}, for task='multilabel'."
        )
    y, predicted = y.astype(bool), outputs > (0.5 if are_probabilities(outputs) else 0)
    sums = of.no_counts(*y.shape)
    of.count_labels(sums, y, predicted, groups_of(len(y)), weights)
    accuracy, whole = _accuracy((y == predicted).all(axis=1), weights)
    f1 = {
        kind: metrics.f1_score(y, predicted, average=kind, zero_division=0, sample_weight=weights)
        for kind in ("micro", "macro")
    }
    table = per_class(sums.sum(axis=0), classes)
    table["ap"] = [
        metrics.average_precision_score(truth, score, sample_weight=weights) if truth.any() else math.nan
        for truth, score in zip(y.T, outputs.T, strict=True)
    ]
    auc, parts = _auc(y, outputs, weights, classes, "rows both with and without")
    return Evaluation(
        task="multilabel",
        **accuracy,
        micro_f1=float(f1["micro"]),
        macro_f1=float(f1["macro"]),
        auc=auc,
        mean_ap=float(table["ap"].mean(skipna=False)),
        per_class=table,
        classes=classes,
        without=whole
        | _spread(sums, micro_f1=of.micro_f1, macro_f1=lambda it: np.nan_to_num(of.f1(it)).mean(axis=-1))
        | parts,
    )


def out_of_scope(outputs: np.ndarray, y: np.ndarray, weights: Weights, classes: Names, ignore: int) -> Evaluation:
    """How well rows of no class are told from the others; see `evaluate`.

    References:
        Hendrycks & Gimpel (2017), A baseline for detecting misclassified and out-of-distribution examples.
    """
    inside = y.reshape(len(y), -1)[:, 0] != ignore
    if inside.all() or not inside.any():
        where = "in" if inside.all() else "out of"
        raise ValueError(
            f"all rows are {where} scope; expected rows of both kinds, those out of scope with the label {ignore}."
        )
    k = outputs.shape[1]
    chances = outputs if are_probabilities(outputs) else softmax(outputs, axis=1)
    score = chances.max(axis=1)
    auc = metrics.roc_auc_score(inside, score, sample_weight=weights)
    accepted, taken = metrics.roc_curve(inside, score, sample_weight=weights, drop_intermediate=False)[1::-1]
    right = class_indices(y[inside], k) == outputs[inside].argmax(axis=1)
    accuracy, _ = _accuracy(right, None if weights is None else weights[inside])
    return Evaluation(
        task="out_of_scope",
        **accuracy | {"n": len(y), "units": len(y)},
        auc=float(auc),
        fpr95=float(taken[np.argmax(accepted >= 0.95)]),
        classes=classes,
        without={} if weights is not None else {"auc": auc_without_each(inside[:, None], score[:, None])},
    )


def per_class(sums: np.ndarray, classes: Names) -> pd.DataFrame:
    """Precision, recall, F1 and number of rows of each class, from counts `(3, k)`."""
    import pandas as pd

    columns = {"precision": of.precision(sums), "recall": of.recall(sums), "f1": np.nan_to_num(of.f1(sums))}
    return pd.DataFrame(columns | {"rows": sums[of.TRUE]}, index=list(classes or range(sums.shape[1])))


def _counts(y: np.ndarray, predicted: np.ndarray, k: int, weights: Weights) -> np.ndarray:
    sums = of.no_counts(len(y), k)
    of.count_classes(sums, y, predicted, groups_of(len(y)), weights)
    return sums


def _spread(sums: np.ndarray, **figures: Any) -> dict[str, np.ndarray]:
    return {name: without_each(figure, sums) for name, figure in figures.items()}


def _accuracy(right: np.ndarray, weights: Weights) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Accuracy with its interval, and what a difference to another model needs."""
    n, groups = len(right), groups_of(len(right))
    shares = np.ones(n) if weights is None else weights
    value = float(np.average(right, weights=weights))
    sums = np.stack([np.bincount(groups, right * shares), np.bincount(groups, shares)], axis=1)
    without = without_each(lambda it: it[:, 0] / it[:, 1], sums) if n > 1 else np.full(1, math.nan)
    interval = wilson(int(right.sum()), n) if weights is None else jackknife(value, without, n)
    found = {"accuracy": value, "accuracy_interval": interval, "right": right if weights is None else None}
    return found | {"n": n, "units": n}, {"accuracy": without}


def _auc(
    y: np.ndarray, scores: np.ndarray, weights: Weights, classes: Names, lacking: str
) -> tuple[float, dict[str, np.ndarray]]:
    """One-vs-rest AUC, the mean over columns, and what its interval needs; NaN with a warning if one is constant."""
    constant = np.flatnonzero(y.all(axis=0) | ~y.any(axis=0))
    if len(constant):
        # Of classes the absent ones are the reason; a class that all rows have is only the other side of them.
        which = np.flatnonzero(~y.any(axis=0)) if lacking == "row" else constant
        names = ", ".join(classes[c] if classes else str(c) for c in which[:_NAMED])
        if len(which) > _NAMED:
            names += f" and {len(which) - _NAMED} more"
        warnings.warn(f"AUC is undefined, because y has no {lacking} of: {names}.", RuntimeWarning, stacklevel=5)
        return math.nan, {}
    # As multilabel columns: the multiclass form of roc_auc_score refuses rows that do not sum to one exactly.
    auc = float(metrics.roc_auc_score(y, scores, average="macro", sample_weight=weights))
    return auc, {} if weights is not None else {"auc": auc_without_each(y, scores)}
