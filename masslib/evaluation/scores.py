"""`evaluate`: from a model and its data to the figures of its task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from masslib._util.checks import check_counts
from masslib.evaluation.classes import binary, multiclass, multilabel, out_of_scope
from masslib.evaluation.outputs import pieces, source_of
from masslib.evaluation.ranking import ranking
from masslib.evaluation.result import Evaluation, Evaluations
from masslib.evaluation.streams import Regression, Segmentation, Tokens
from masslib.evaluation.tasks import TASKS, compiled_options, pick_task

if TYPE_CHECKING:
    from masslib.data import Subset

_STREAMS = {"regression": Regression, "segmentation": Segmentation, "tokens": Tokens}
_CLASSES: dict[str, Callable[..., Evaluation]] = {"multiclass": multiclass, "binary": binary, "multilabel": multilabel}
# The label of rows out of scope, unless ignore_class says another one
_OUTSIDE = -1


def evaluate(
    model: Any,
    data: Subset | tuple[Any, ...],
    *,
    batch_size: int = 256,
    task: str | Mapping[str, str] = "auto",
    ignore_class: int | None = None,
    groups: np.ndarray | None = None,
    k: int = 10,
) -> Evaluation | Evaluations:
    """Run `model` over `data` and compute the metrics of its task with scikit-learn.

    `"auto"` asks the loss that a Keras model was compiled with. Where that says nothing, as of a file, it takes the one
    task that labels and outputs fit, and raises if there are several: labels of 0 and 1 may be classes or quantities. A
    softmax of two outputs is multiclass; `task="binary"` reads the second as the probability of class 1.

    - `"multiclass"`, `"binary"`: `y` holds class indices from 0 `(n,)` or one-hot labels `(n, k)`.
    - `"multilabel"`: labels of 0 and 1, `(n, k)`.
    - `"regression"`: quantities of the shape of the outputs, of any rank.
    - `"segmentation"`: the class of each pixel, `(n, ...)` for outputs `(n, ..., k)`; one output tells two classes.
    - `"tokens"`: the class of each token, `(n, length)` for outputs `(n, length, k)`. Padding has a label that
      `ignore_class` names, or a weight of 0: `predict` does not tell what a network has masked.
    - `"ranking"`: scores of all items, `(n, items)`, and in `y` the index of the one item or the relevance of all; or
      with `groups` one score per row, `(n,)`, and its relevance. Users who want no item are left out.
    - `"out_of_scope"`: as multiclass, with some rows of no class, labelled -1 or `ignore_class`. They are told from the
      others by the probability of the predicted class.

    Of a model with several outputs each is judged by itself; outputs without labels are left out.

    Outputs count as probabilities when all of them lie in [0, 1] (a hundredth of slack for quantized files),
    else as logits: several go through a softmax before the AUC, and the threshold of a single one is 0
    instead of 0.5. Probabilities need not sum to one: the one-vs-rest AUC ranks the rows class by class.

    Args:
        model: Anything with `predict(x)`, such as a Keras 3 model, a tf_keras model or a `masslib.runtime.Predictor`;
            or the path of an exported file, which is loaded and closed.
        data: A `Subset`, a pair `(x, y)`, or `(x, y, sample_weight)`: arrays, or dicts, lists and tuples of them as the
            model takes and answers them. Labels and weights of several outputs go by name or in their order; one array
            of weights belongs to all. It is read piece by piece. Regression, segmentation and tokens keep sums
            instead of outputs.
        batch_size: Rows per batch of `predict`.
        task: `"auto"` or one of the above; of several outputs for all, or name -> task.
        ignore_class: Label of rows, pixels or tokens that have no class (void, padding); by default what the compiled
            loss says, as `SparseCategoricalCrossentropy(ignore_class=255)` does.
        groups: The user of each row, `(n,)`, for `"ranking"`.
        k: How many items count in `"ranking"`.

    Returns:
        An `Evaluation`; of several outputs `Evaluations`, by their names.

    Raises:
        TypeError: `model` cannot predict; `data` is not one of the above.
        ValueError: Data, labels and outputs do not fit each other or the task; NaN in the outputs.

    Warns:
        RuntimeWarning: A class is absent from `y`, so that the AUC is undefined (NaN).

    References:
        AUC, F1, average precision: scikit-learn. Interval: Wilson (1927), Probable inference, the law of succession,
        and statistical inference; `scipy.stats.binomtest`. Others: see `Evaluation`.

    Example:
        >>> import numpy as np
        >>> class Threshold:
        ...     def predict(self, x):
        ...         return x
        >>> evaluate(Threshold(), (np.array([[0.1], [0.4], [0.7], [0.9]]), np.array([0, 1, 1, 1])), task="binary")
        Evaluation(binary, n=4: accuracy 0.75 [0.3006, 0.9544], precision 1, recall 0.6667, f1 0.8, auc 1)
    """
    passed = task.values() if isinstance(task, Mapping) else [task]
    wrong = [it for it in passed if it not in TASKS]
    if wrong:
        raise ValueError(f"task is {wrong[0]!r}; expected one of {', '.join(map(repr, TASKS))}.")
    check_counts(batch_size=(batch_size, 1), k=(k, 1))
    source = source_of(data)
    if ignore_class is None:
        ignore_class = compiled_options(model).get("ignore_class")
    users = None if groups is None else _users(groups, source.rows)
    asked = _Asked(source.rows, source.classes, ignore_class, users, int(k))
    judges: dict[str, Any] = {}
    for piece in pieces(model, source, int(batch_size)):
        several = list(piece.outputs)
        for name, y in piece.y.items():
            outputs, weights = piece.outputs[name], piece.weights.get(name)
            if name not in judges:
                one = task if isinstance(task, str) else task.get(name, "auto")
                seen = y[y != ignore_class] if y.ndim == 1 and ignore_class is not None else y
                one = pick_task(one, model, name, several, outputs, seen, source.classes is not None)
                judges[name] = asked.judge(one, outputs, alone=len(several) == 1)
            judges[name].add(piece.rows, outputs, y[piece.rows], None if weights is None else weights[piece.rows])
    found = {name: judge.result() for name, judge in judges.items()}
    return found[""] if list(found) == [""] else Evaluations(found)


@dataclass(frozen=True)
class _Asked:
    """What of `evaluate`'s arguments the figures depend on."""

    rows: int
    classes: tuple[str, ...] | None
    ignore: int | None
    users: np.ndarray | None
    k: int

    def judge(self, task: str, outputs: np.ndarray, *, alone: bool) -> Any:
        """What adds up the rows of one output, of which `outputs` are some."""
        shape = outputs.shape[1:] or (1,)
        classes, told = self.classes, max(shape[-1], 2)
        if classes is not None and len(classes) != told and task != "regression":
            if alone:
                raise ValueError(
                    f"The data name {len(classes)} classes, but the model tells {told} apart; evaluate the model on "
                    "the data it was built for."
                )
            classes = None  # those of another output
        if task in _STREAMS:
            return _STREAMS[task](self.rows, shape, classes, self.ignore)
        return _Rows(task, self, classes)


class _Rows:
    """Keeps outputs and labels of all rows, for figures that are not sums over them."""

    def __init__(self, task: str, asked: _Asked, classes: tuple[str, ...] | None):
        self._task, self._asked, self._classes = task, asked, classes
        self._parts: list[tuple[np.ndarray, ...]] = []

    def add(self, rows: slice, outputs: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> None:
        """Keep some rows."""
        if weights is not None and weights.size != len(y):
            raise ValueError(f"sample_weight has shape {weights.shape}; expected one weight per row")
        self._parts.append((outputs, y) if weights is None else (outputs, y, weights.reshape(-1)))

    def result(self) -> Evaluation:
        """The figures of all rows."""
        outputs, y, *rest = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        weights, asked = rest[0] if rest else None, self._asked
        if self._task == "ranking":
            if weights is not None:
                raise ValueError(
                    "sample_weight is not used in rankings, whose figures are means over users; leave it out"
                )
            return ranking(outputs, y, asked.users, asked.k, self._classes)
        outputs = outputs.reshape(len(outputs), -1)
        if self._task == "out_of_scope":
            outside = _OUTSIDE if asked.ignore is None else asked.ignore
            return out_of_scope(outputs, y, weights, self._classes, outside)
        if asked.ignore is not None and y.size == len(y):
            kept = y.reshape(-1) != asked.ignore
            if not kept.any():
                raise ValueError(f"all rows have the ignored class {asked.ignore}; there is nothing to evaluate")
            outputs, y, weights = outputs[kept], y[kept], None if weights is None else weights[kept]
        return _CLASSES[self._task](outputs, y, weights, self._classes)


def _users(groups: Any, rows: int) -> np.ndarray:
    users = np.asarray(groups)
    if users.shape != (rows,):
        raise ValueError(f"groups has shape {users.shape}; expected the user of each row, ({rows},)")
    return users
