"""`evaluate`: from a model and its data to the figures of its task."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn import metrics

from masslib.evaluation.outputs import outputs_and_labels
from masslib.evaluation.result import Evaluation
from masslib.evaluation.tasks import TASKS, class_indices, pick_task

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

    `"auto"` takes several outputs with whole-number labels for multiclass, one output with labels 0 and 1
    for binary, and fractional labels for regression. A softmax of two outputs is multiclass; `task="binary"`
    reads the second as the probability of class 1.

    Outputs count as probabilities when all of them lie in [0, 1] (a hundredth of slack for quantized files),
    else as logits: several go through a softmax before the AUC, and the threshold of a single one is 0
    instead of 0.5. Probabilities need not sum to one: the one-vs-rest AUC ranks the rows class by class.

    Args:
        model: Anything with `predict(x)` that returns one array, such as a Keras 3 model, a tf_keras model
            or a `masslib.runtime.Predictor`; or the path of an exported file, which is loaded and closed.
        data: A `Subset`, or a pair `(x, y)` with `x` `(n, ...)` and `y` `(n,)`: class indices from 0, or
            quantities, `(n,)` or `(n, d)`, for regression. It is read piece by piece.
        batch_size: Rows per batch of `predict`.
        task: `"auto"`, `"multiclass"`, `"binary"` or `"regression"`.

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
        >>> evaluate(Threshold(), (np.array([[0.1], [0.4], [0.7], [0.9]]), np.array([0, 1, 1, 1])))
        Evaluation(binary, n=4: accuracy 0.75 [0.3006, 0.9544], precision 1, recall 0.6667, f1 0.8, auc 1)
    """
    if task not in TASKS:
        raise ValueError(f"task is {task!r}; expected one of {', '.join(map(repr, TASKS))}.")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ValueError(f"batch_size is {batch_size!r}; expected a whole number of at least 1.")
    outputs, y, classes = outputs_and_labels(model, data, int(batch_size))
    task = pick_task(task, outputs, y)
    if task == "regression":
        return _regression(outputs, y)
    k = max(outputs.shape[1], 2)
    if classes is not None and len(classes) != k:
        raise ValueError(
            f"The data name {len(classes)} classes, but the model tells {k} apart; evaluate the model on "
            "the data it was built for."
        )
    return (_binary if task == "binary" else _multiclass)(outputs, class_indices(y, k), classes)


def _multiclass(outputs: np.ndarray, y: np.ndarray, classes: tuple[str, ...] | None) -> Evaluation:
    predicted = outputs.argmax(axis=1)
    scores = outputs if are_probabilities(outputs) else softmax(outputs, axis=1)
    return Evaluation(
        task="multiclass",
        **_accuracy(y, predicted, outputs.shape[1]),
        macro_f1=float(metrics.f1_score(y, predicted, average="macro", zero_division=0)),
        auc=_auc(y, scores, classes),
        classes=classes,
    )


def _binary(outputs: np.ndarray, y: np.ndarray, classes: tuple[str, ...] | None) -> Evaluation:
    probable = are_probabilities(outputs)
    if outputs.shape[1] == 2:
        score, threshold = outputs[:, 1] - outputs[:, 0], 0.0
    else:
        score, threshold = outputs[:, 0], 0.5 if probable else 0.0
    predicted = (score > threshold).astype(np.int64)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(y, predicted, average="binary", zero_division=0)
    return Evaluation(
        task="binary",
        **_accuracy(y, predicted, 2),
        precision=float(precision),
        recall=float(recall),
        f1=float(f1),
        auc=_auc(y, np.stack([-score, score], axis=1), classes),
        classes=classes,
    )


def _regression(outputs: np.ndarray, y: np.ndarray) -> Evaluation:
    if y.ndim == 1:
        y = y[:, None]
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


def _accuracy(y: np.ndarray, predicted: np.ndarray, k: int) -> dict[str, Any]:
    right = int((y == predicted).sum())
    interval = binomtest(right, len(y)).proportion_ci(0.95, method="wilson")
    return {
        "n": len(y),
        "accuracy": float(metrics.accuracy_score(y, predicted)),
        "accuracy_interval": (float(interval.low), float(interval.high)),
        "confusion": metrics.confusion_matrix(y, predicted, labels=np.arange(k)),
    }


def _auc(y: np.ndarray, scores: np.ndarray, classes: tuple[str, ...] | None) -> float:
    """One-vs-rest AUC of scores `(n, k)`, the mean over classes; NaN with a warning if one is absent."""
    k = scores.shape[1]
    absent = np.setdiff1d(np.arange(k), y)
    if len(absent):
        names = ", ".join(classes[c] if classes else str(c) for c in absent)
        warnings.warn(f"AUC is undefined, because y has no row of: {names}.", RuntimeWarning, stacklevel=4)
        return math.nan
    # As multilabel columns: the multiclass form of roc_auc_score refuses rows that do not sum to one exactly.
    return float(metrics.roc_auc_score(y[:, None] == np.arange(k), scores, average="macro"))
