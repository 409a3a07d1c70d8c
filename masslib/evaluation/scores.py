"""`evaluate`: from a model and its data to the figures of its task."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn import metrics

from masslib._util.checks import check_counts
from masslib.evaluation.outputs import outputs_and_labels
from masslib.evaluation.result import Evaluation
from masslib.evaluation.tasks import TASKS, class_indices, is_signs, pick_task

if TYPE_CHECKING:
    from masslib.data import Subset

# Quantized probabilities leave [0, 1] by rounding, logits by far more.
_ROUNDING = 1e-2


def evaluate(
    model: Any,
    data: Subset | tuple[np.ndarray, np.ndarray],
    *,
    batch_size: int = 256,
    task: str = "auto",
) -> Evaluation:
    """Run `model` over `data` and compute the metrics of its task with scikit-learn.

    `"auto"` asks the loss that a Keras model was compiled with. Where that says nothing, as of a file, it takes the one
    task that labels and outputs fit, and raises if there are several: labels of 0 and 1 may be classes or quantities. A
    softmax of two outputs is multiclass; `task="binary"` reads the second as the probability of class 1.

    Outputs count as probabilities when all of them lie in [0, 1] (a hundredth of slack for quantized files),
    else as logits: several go through a softmax before the AUC, and the threshold of a single one is 0
    instead of 0.5. Probabilities need not sum to one: the one-vs-rest AUC ranks the rows class by class.

    Args:
        model: Anything with `predict(x)` that returns one array, such as a Keras 3 model, a tf_keras model
            or a `masslib.runtime.Predictor`; or the path of an exported file, which is loaded and closed.
        data: A `Subset`, or a pair `(x, y)` with `x` `(n, ...)` and `y`: class indices from 0 `(n,)` or one-hot
            `(n, k)`; labels of 0 and 1, `(n,)` for binary and `(n, k)` for multilabel; or quantities, `(n,)` or
            `(n, d)`. It is read piece by piece.
        batch_size: Rows per batch of `predict`.
        task: `"auto"`, `"multiclass"`, `"binary"`, `"multilabel"` or `"regression"`.

    Returns:
        An `Evaluation`.

    Raises:
        TypeError: `model` cannot predict or gives more than one array; `data` is not one of the above.
        ValueError: Data, labels and outputs do not fit each other or the task; NaN in the outputs.

    Warns:
        RuntimeWarning: A class is absent from `y`, so that the AUC is undefined (NaN).

    References:
        AUC, macro F1: scikit-learn, `roc_auc_score` and `f1_score`. Interval: Wilson (1927), Probable
        inference, the law of succession, and statistical inference; `scipy.stats.binomtest`.

    Example:
        >>> import numpy as np
        >>> class Threshold:
        ...     def predict(self, x):
        ...         return x
        >>> evaluate(Threshold(), (np.array([[0.1], [0.4], [0.7], [0.9]]), np.array([0, 1, 1, 1])), task="binary")
        Evaluation(binary, n=4: accuracy 0.75 [0.3006, 0.9544], precision 1, recall 0.6667, f1 0.8, auc 1)
    """
    if task not in TASKS:
        raise ValueError(f"task is {task!r}; expected one of {', '.join(map(repr, TASKS))}.")
    check_counts(batch_size=(batch_size, 1))
    outputs, y, classes = outputs_and_labels(model, data, int(batch_size))
    task = pick_task(task, model, outputs, y, classes)
    if task == "regression":
        return _regression(outputs, y)
    k = max(outputs.shape[1], 2)
    if classes is not None and len(classes) != k:
        raise ValueError(
            f"The data name {len(classes)} classes, but the model tells {k} apart; evaluate the model on "
            "the data it was built for."
        )
    if task == "multilabel":
        return _multilabel(outputs, y, classes)
    judge = _binary if task == "binary" else _multiclass
    return judge(outputs, class_indices(y, k), classes, signs=is_signs(y))


def _multiclass(outputs: np.ndarray, y: np.ndarray, classes: tuple[str, ...] | None, *, signs: bool) -> Evaluation:
    predicted = outputs.argmax(axis=1)
    scores = outputs if are_probabilities(outputs) else softmax(outputs, axis=1)
    return Evaluation(
        task="multiclass",
        **_accuracy(y == predicted),
        confusion=metrics.confusion_matrix(y, predicted, labels=np.arange(outputs.shape[1])),
        macro_f1=float(metrics.f1_score(y, predicted, average="macro", zero_division=0)),
        auc=_auc(y, scores, classes),
        classes=classes,
    )


def _binary(outputs: np.ndarray, y: np.ndarray, classes: tuple[str, ...] | None, *, signs: bool) -> Evaluation:
    probable = are_probabilities(outputs) and not signs
    if outputs.shape[1] == 2:
        score, threshold = outputs[:, 1] - outputs[:, 0], 0.0
    else:
        score, threshold = outputs[:, 0], 0.5 if probable else 0.0
    predicted = (score > threshold).astype(np.int64)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(y, predicted, average="binary", zero_division=0)
    return Evaluation(
        task="binary",
        **_accuracy(y == predicted),
        confusion=metrics.confusion_matrix(y, predicted, labels=[0, 1]),
        precision=float(precision),
        recall=float(recall),
        f1=float(f1),
        auc=_auc(y, np.stack([-score, score], axis=1), classes),
        classes=classes,
    )


def _multilabel(outputs: np.ndarray, y: np.ndarray, classes: tuple[str, ...] | None) -> Evaluation:
    if y.shape != outputs.shape or not np.isin(y, (0, 1)).all():
        raise ValueError(
            f"y has shape {y.shape} and values from {y.min()} to {y.max()}; expected labels of 0 and 1, "
            f"{outputs.shape}, for task='multilabel'."
        )
    y, predicted = y.astype(bool), outputs > (0.5 if are_probabilities(outputs) else 0)
    accuracy = _accuracy((y == predicted).all(axis=1))
    f1 = {kind: metrics.f1_score(y, predicted, average=kind, zero_division=0) for kind in ("micro", "macro")}
    constant = np.flatnonzero(y.all(axis=0) | ~y.any(axis=0))
    auc = _undefined("rows both with and without", constant, classes) if len(constant) else _ranked(y, outputs)
    return Evaluation(
        task="multilabel",
        **accuracy,
        micro_f1=float(f1["micro"]),
        macro_f1=float(f1["macro"]),
        auc=auc,
        classes=classes,
    )


def _regression(outputs: np.ndarray, y: np.ndarray) -> Evaluation:
    y = y.reshape(len(y), -1)
    if y.shape != outputs.shape:
        raise ValueError(f"The model gives outputs of shape {outputs.shape}, but y has shape {y.shape}.")
    return Evaluation(
        task="regression",
        n=len(y),
        mae=float(metrics.mean_absolute_error(y, outputs)),
        rmse=float(metrics.root_mean_squared_error(y, outputs)),
        # scikit-learn warns by itself that R2 needs two rows, and gives NaN.
        r2=float(metrics.r2_score(y, outputs)),
    )


def are_probabilities(outputs: np.ndarray) -> bool:
    return bool(outputs.min() >= -_ROUNDING and outputs.max() <= 1 + _ROUNDING)


def _accuracy(right: np.ndarray) -> dict[str, Any]:
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(0.95, method="wilson")
    return {
        "n": len(right),
        "accuracy": float(right.mean()),
        "accuracy_interval": (float(interval.low), float(interval.high)),
    }


def _auc(y: np.ndarray, scores: np.ndarray, classes: tuple[str, ...] | None) -> float:
    """One-vs-rest AUC of scores `(n, k)`, the mean over classes; NaN with a warning if one is absent."""
    absent = np.setdiff1d(np.arange(scores.shape[1]), y)
    if len(absent):
        return _undefined("row", absent, classes)
    # As multilabel columns: the multiclass form of roc_auc_score refuses rows that do not sum to one exactly.
    return _ranked(y[:, None] == np.arange(scores.shape[1]), scores)


def _ranked(y: np.ndarray, scores: np.ndarray) -> float:
    return float(metrics.roc_auc_score(y, scores, average="macro"))


def _undefined(lacking: str, which: np.ndarray, classes: tuple[str, ...] | None) -> float:
    names = ", ".join(classes[c] if classes else str(c) for c in which)
    warnings.warn(f"AUC is undefined, because y has no {lacking} of: {names}.", RuntimeWarning, stacklevel=5)
    return math.nan
