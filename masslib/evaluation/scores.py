"""`evaluate`: from a model and its data to the figures of its task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from masslib._util.checks import check_counts
from masslib.evaluation.classes import binary, multiclass, multilabel, out_of_scope
from masslib.evaluation.outputs import Piece, Source, class_names, of_output, pieces, source_of
from masslib.evaluation.ranking import ranking
from masslib.evaluation.result import Evaluation, Evaluations
from masslib.evaluation.slicing import Sliced, parts_of
from masslib.evaluation.streams import Regression, Segmentation, Tokens
from masslib.evaluation.tasks import TASKS, About, check_labels, compiled_options, pick_task

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
    ignore_class: int | Mapping[str, int] | None = None,
    groups: str | np.ndarray | None = None,
    k: int = 10,
    slices: Mapping[str, Any] | None = None,
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
            or the path of an exported file, which is loaded, run on all cores that this process may use, and closed.
        data: A `Subset`, a pair `(x, y)`, or `(x, y, sample_weight)`: arrays, or dicts, lists and tuples of them as the
            model takes and answers them. Labels and weights of several outputs go by name or in their order; one array
            of weights belongs to all. It is read piece by piece. Regression, segmentation and tokens keep sums
            instead of outputs.
        batch_size: Rows per batch of `predict`.
        task: `"auto"` or one of the above; of several outputs for all, or name -> task.
        ignore_class: Label of rows, pixels or tokens that have no class (void, padding); by default what the compiled
            loss says, as `SparseCategoricalCrossentropy(ignore_class=255)` does. Of several outputs for all, or name ->
            label.
        groups: The user of each row, `(n,)`, for `"ranking"`; or the name of the input that holds it.
        k: How many items count in `"ranking"`.
        slices: Name -> which rows belong to a part of the data that is judged by itself as well, booleans `(n,)`; or
            name -> a value per row, `(n,)`, such as a category, each of which is a slice `name=value`. Slices may
            overlap. `Evaluation.slices` holds an `Evaluation` of each, `Evaluation.by_slice` is the table, worst first.

    Returns:
        An `Evaluation`; of several outputs `Evaluations`, by their names.

    Raises:
        TypeError: `model` cannot predict; `data` is not one of the above.
        ValueError: Data, labels and outputs do not fit each other or the task; NaN in the outputs; a slice without
            rows.

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
        >>> by_age = {"age": np.array(["old", "young", "old", "young"])}
        >>> x, y = np.array([[0.1], [0.4], [0.7], [0.9]]), np.array([0, 1, 1, 1])
        >>> evaluate(Threshold(), (x, y), task="binary", slices=by_age).by_slice["accuracy"]
        age=young    0.5
        age=old      1.0
        Name: accuracy, dtype: float64
    """
    passed = task.values() if isinstance(task, Mapping) else [task]
    wrong = [it for it in passed if it not in TASKS]
    if wrong:
        raise ValueError(f"task is {wrong[0]!r}; expected one of {', '.join(map(repr, TASKS))}.")
    check_counts(batch_size=(batch_size, 1), k=(k, 1))
    source = source_of(data)
    if ignore_class is None:
        ignore_class = compiled_options(model).get("ignore_class")
    users = None if groups is None or isinstance(groups, str) else _users(groups, source.rows)
    parts, judges = parts_of(slices, source.rows), {}
    for piece in pieces(model, source, int(batch_size)):
        for name, y in piece.y.items():
            if name not in judges:
                asked = of_output(task, name, "auto"), of_output(ignore_class, name)
                make = _judge_maker(*asked, model, source, piece, name, int(k))
                judges[name] = make(source.rows), Sliced(parts, make)
            check_labels(y)
            rest = piece.outputs[name], y, piece.weights.get(name), _some_users(groups, users, piece)
            judge, sliced = judges[name]
            judge.add(piece.rows, *rest)
            sliced.add(piece.rows, *rest)
    found = {name: replace(judge.result(), slices=sliced.results()) for name, (judge, sliced) in judges.items()}
    return found[""] if list(found) == [""] else Evaluations(found)


def _judge_maker(
    task: str, ignore: int | None, model: Any, source: Source, piece: Piece, name: str, k: int
) -> Callable[[int], Any]:
    """Number of rows -> what adds up so many rows of one output."""
    several, shape = list(piece.outputs), piece.outputs[name].shape
    classes = class_names(source.classes, piece).get(name)
    about = About(task, model, name, several, shape, classes is not None, ignore)
    task = pick_task(about, lambda: np.asarray(piece.by_name("y", source.labels())[name]))
    return lambda rows: _Asked(task, rows, classes, ignore, k).judge(shape, alone=len(several) == 1)


@dataclass(frozen=True)
class _Asked:
    """What the figures of one output depend on, besides the rows."""

    task: str
    rows: int
    classes: tuple[str, ...] | None
    ignore: int | None
    k: int

    def judge(self, shape: tuple[int, ...], *, alone: bool) -> Any:
        """What adds up the rows of outputs of this shape."""
        told, classes = max(shape[-1], 2) if len(shape) > 1 else 2, self.classes
        if classes is not None and len(classes) != told and self.task != "regression":
            if alone:
                raise ValueError(
                    f"The data name {len(classes)} classes, but the model tells {told} apart; evaluate the model on "
                    "the data it was built for."
                )
            classes = None  # those of another output
        if self.task in _STREAMS:
            return _STREAMS[self.task](self.rows, shape[1:] or (1,), classes, self.ignore)
        return _Rows(replace(self, classes=classes))


class _Rows:
    """Keeps outputs and labels of all rows, for figures that are not sums over them."""

    def __init__(self, asked: _Asked):
        self._asked = asked
        self._parts: list[tuple[np.ndarray, ...]] = []
        self._weights: list[np.ndarray] = []
        self._users: list[np.ndarray] = []

    def add(
        self, rows: slice, outputs: np.ndarray, y: np.ndarray, weights: np.ndarray | None, users: np.ndarray | None
    ) -> None:
        """Keep some rows."""
        if weights is not None and weights.size != len(y):
            raise ValueError(f"sample_weight has shape {weights.shape}; expected one weight per row")
        self._parts.append((outputs, y))
        self._weights += [] if weights is None else [weights.reshape(-1)]
        self._users += [] if users is None else [users]

    def result(self) -> Evaluation:
        """The figures of all rows."""
        outputs, y = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        weights = np.concatenate(self._weights) if self._weights else None
        task, classes, ignore = self._asked.task, self._asked.classes, self._asked.ignore
        if task == "ranking":
            if weights is not None:
                raise ValueError(
                    "sample_weight is not used in rankings, whose figures are means over users; leave it out"
                )
            users = np.concatenate(self._users) if self._users else None
            return ranking(outputs, y, users, self._asked.k, classes)
        outputs = outputs.reshape(len(outputs), -1)
        if task == "out_of_scope":
            return out_of_scope(outputs, y, weights, classes, _OUTSIDE if ignore is None else ignore)
        if ignore is not None and y.size == len(y):
            kept = y.reshape(-1) != ignore
            if not kept.any():
                raise ValueError(f"all rows have the ignored class {ignore}; there is nothing to evaluate")
            outputs, y, weights = outputs[kept], y[kept], None if weights is None else weights[kept]
        return _CLASSES[task](outputs, y, weights, classes)


def _users(groups: Any, rows: int) -> np.ndarray:
    users = np.asarray(groups)
    if users.shape != (rows,):
        raise ValueError(f"groups has shape {users.shape}; expected the user of each row, ({rows},)")
    return users


def _some_users(groups: Any, users: np.ndarray | None, piece: Piece) -> np.ndarray | None:
    if not isinstance(groups, str):
        return None if users is None else users[piece.rows]
    if not isinstance(piece.x, dict) or groups not in piece.x:
        fields = ", ".join(piece.x) if isinstance(piece.x, dict) else "no names"
        raise ValueError(f"groups={groups!r}: expected the name of an input with the users; the inputs have {fields}")
    return _users(np.asarray(piece.x[groups]).reshape(-1), piece.rows.stop - piece.rows.start)
