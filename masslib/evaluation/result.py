"""`Evaluation`: the figures of one model on one data set; `Evaluations`: those of each of several outputs."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from masslib.evaluation.intervals import Interval, jackknife

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FIGURES = {
    "multiclass": ("accuracy", "macro_f1", "auc"),
    "multilabel": ("accuracy", "micro_f1", "macro_f1", "auc", "mean_ap"),
    "binary": ("accuracy", "precision", "recall", "f1", "auc"),
    "regression": ("mae", "rmse", "r2"),
    "segmentation": ("accuracy", "mean_iou"),
    "tokens": ("accuracy", "perplexity"),
    "ranking": ("recall_at_k", "ndcg_at_k"),
    "out_of_scope": ("auc", "fpr95", "accuracy"),
}
# Figures that are small when a model is good; of all others large ones are.
SMALL_IS_GOOD = ("mae", "rmse", "perplexity", "fpr95", "ece")
# Figures in units of their own; all others are fractions.
UNITS = ("mae", "rmse", "perplexity")
_COUNTED = {"segmentation": "labelled pixels", "tokens": "labelled tokens", "ranking": "users"}


@dataclass(frozen=True)
class Evaluation:
    """The quality of one model on one data set; made by `evaluate`.

    Figures that do not belong to the task are None; one that belongs to it but is undefined for the data
    (AUC with a class absent) is NaN. `mae`, `rmse`, `r2` and `perplexity` apart, figures are fractions. With weights,
    rows count by theirs.

    Attributes:
        task: `"multiclass"`, `"binary"`, `"multilabel"`, `"regression"`, `"segmentation"`, `"tokens"`, `"ranking"` or
            `"out_of_scope"`.
        n: Number of rows.
        accuracy: Share of rows whose most probable class is the true one (top-1); for multilabel, of rows all of whose
            labels are right (subset accuracy), each predicted above a probability of 0.5; for segmentation, of
            pixels; for tokens, of tokens; for out_of_scope, of the rows in scope.
        accuracy_interval: `(low, high)`, the 95 % Wilson score interval of `accuracy`; where it is no share of rows,
            as with weights and for pixels and tokens, that of the jackknife.
        macro_f1: Mean F1 over the classes that occur among labels or predictions (multiclass), or over all labels
            (multilabel).
        micro_f1: F1 over all labels of all rows together (multilabel).
        precision: True positives / predicted positives (binary).
        recall: True positives / actual positives (binary).
        f1: Harmonic mean of precision and recall (binary).
        auc: Area under the ROC curve; for several classes or labels one-vs-rest, the mean over them; for
            out_of_scope, of telling rows in scope from the others by the probability of the predicted class.
        mean_ap: Mean average precision over the labels (multilabel).
        mae: Mean absolute error, in the unit of the labels.
        rmse: Root mean squared error, in the unit of the labels.
        r2: Coefficient of determination; 1 is perfect, 0 as good as the mean; the mean over the outputs.
        mean_iou: Intersection over union of true and predicted pixels, the mean over the classes that occur.
        perplexity: Exponential of the mean cross-entropy of a token, in nats; 1 is perfect.
        recall_at_k: Share of the relevant items of a user that are among the `k` with the highest scores, the mean
            over users; items of equal score stand in random order.
        ndcg_at_k: Normalized discounted cumulative gain of those `k`, the mean over users.
        fpr95: Share of the rows out of scope that are taken for rows in scope when 95 % of these are accepted.
        ece: Expected calibration error (multiclass, binary): how far the probability of the predicted class is from
            its accuracy, the mean over 15 bins. Not among `metrics`.
        k: How many items count (ranking).
        counted: Pixels, tokens or users that the figures are of, where these are not rows.
        confusion: Counts, `(k, k)`; rows are true classes, columns predicted ones.
        reliability: `(15, 3)`: rows, mean confidence and accuracy of each bin of confidence; see `plot_reliability`.
        per_class: One row per class or label: precision, recall, F1 and others; None for other tasks.
        classes: Names of the classes, or None.
        right: Whether each row is right, `(n,)`, if accuracy is a share of rows.
        without: Figure -> its values without each group of rows, for the intervals.
        units: How many rows, or users, can be drawn independently.
        slices: Name -> the evaluation of a part of the rows, for those that `evaluate(..., slices=...)` was asked for.
    """

    task: str
    n: int
    accuracy: float | None = None
    accuracy_interval: Interval | None = None
    macro_f1: float | None = None
    micro_f1: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    auc: float | None = None
    mean_ap: float | None = None
    mae: float | None = None
    rmse: float | None = None
    r2: float | None = None
    mean_iou: float | None = None
    perplexity: float | None = None
    recall_at_k: float | None = None
    ndcg_at_k: float | None = None
    fpr95: float | None = None
    ece: float | None = None
    k: int | None = None
    counted: int | None = None
    confusion: np.ndarray | None = field(default=None, compare=False)
    reliability: np.ndarray | None = field(default=None, compare=False)
    per_class: pd.DataFrame | None = field(default=None, compare=False)
    classes: tuple[str, ...] | None = None
    right: np.ndarray | None = field(default=None, compare=False)
    without: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False)
    units: int = field(default=0, compare=False)
    slices: Mapping[str, Evaluation] = field(default_factory=dict, compare=False)

    @property
    def metrics(self) -> dict[str, float]:
        """The scalar figures of the task, by name."""
        return {name: getattr(self, name) for name in FIGURES[self.task]}

    @property
    def intervals(self) -> dict[str, Interval]:
        """The 95 % intervals of the figures that have one, by name.

        Rows (users, for ranking) count as drawn independently; pixels and tokens of one row do not.

        References:
            Accuracy: Wilson (1927). Others: Busing, Meijer & Van der Leeden (1999), Delete-m jackknife for unequal m,
            of up to 400 groups of rows; AUC: DeLong, DeLong & Clarke-Pearson (1988).
        """
        found = {
            name: jackknife(value, self.without[name], self.units)
            for name, value in self.metrics.items()
            if name in self.without
        }
        return found if self.accuracy_interval is None else found | {"accuracy": self.accuracy_interval}

    @property
    def by_slice(self) -> pd.DataFrame:
        """One row per slice, the worst first: rows, figures, and `low` and `high`, the 95 % interval of the first."""
        import pandas as pd

        first = FIGURES[self.task][0]
        rows: dict[str, dict[str, Any]] = {}
        for name, part in self.slices.items():
            low, high = part.intervals.get(first, (math.nan, math.nan))
            rows[name] = {"n": part.n, **part.metrics, "low": low, "high": high}
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["n", *self.metrics, "low", "high"])
        return table.sort_values(first, ascending=first not in SMALL_IS_GOOD, kind="stable")

    def plot(self) -> Figure:
        """Draw the confusion matrix with `masslib.plot.confusion`.

        Raises:
            ValueError: For tasks without one.
        """
        if self.confusion is None:
            raise ValueError(
                f"A {self.task} evaluation has no confusion matrix to plot; read .metrics, or pass task='binary' or "
                "'multiclass' to evaluate() if the labels are classes."
            )
        from masslib import plot

        return plot.confusion(self.confusion, self.classes)

    def plot_reliability(self) -> Figure:
        """Draw accuracy against confidence with `masslib.plot.reliability`.

        Raises:
            ValueError: For tasks without probabilities of classes.
        """
        if self.reliability is None:
            raise ValueError(
                f"This {self.task} evaluation has no probabilities of classes to plot; expected a multiclass or binary "
                "classifier that answers with probabilities or logits."
            )
        from masslib import plot

        return plot.reliability(self.reliability)

    def _rows(self) -> list[tuple[str, str]]:
        first, intervals = FIGURES[self.task][0], self.intervals
        rows = []
        for name, value in self.metrics.items():
            shown = f"{value:.4g}"
            if name == first and name in intervals:
                low, high = intervals[name]
                shown += f" [{low:.4g}, {high:.4g}]"
            rows.append((name.replace("_at_k", f"@{self.k}"), shown))
        return rows

    def __repr__(self) -> str:
        figures = ", ".join(f"{name} {value}" for name, value in self._rows())
        return f"Evaluation({self.task}, n={self.n}: {figures})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in self._rows())
        note = "; in brackets: 95 % interval" if FIGURES[self.task][0] in self.intervals else ""
        counted = f" ({self.counted:,} {_COUNTED[self.task]})" if self.task in _COUNTED else ""
        return f"<table><caption>{self.task}, {self.n:,} rows{counted}{note}</caption>{rows}</table>"


class Evaluations(Mapping[str, Evaluation]):
    """The quality of a model with several outputs: name of the output -> its `Evaluation`.

    Example:
        >>> found = Evaluations({"age": Evaluation("regression", 9, mae=2.0, rmse=3.0, r2=0.5)})
        >>> found["age"].mae, found.metrics
        (2.0, {'age/mae': 2.0, 'age/rmse': 3.0, 'age/r2': 0.5})
    """

    def __init__(self, outputs: Mapping[str, Evaluation]):
        self._outputs = dict(outputs)

    def __getitem__(self, name: str) -> Evaluation:
        return self._outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    @property
    def metrics(self) -> dict[str, float]:
        """The scalar figures of all outputs, as `output/figure`."""
        return {f"{name}/{key}": value for name, it in self.items() for key, value in it.metrics.items()}

    @property
    def table(self) -> pd.DataFrame:
        """One row per output: its task and its figures; NaN where a figure does not belong to the task."""
        import pandas as pd

        rows: dict[str, dict[str, Any]] = {
            name: {"task": it.task, "n": it.n, **it.metrics} for name, it in self.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index")

    def __repr__(self) -> str:
        return self.table.to_string(float_format="{:.4g}".format, na_rep="")

    def _repr_html_(self) -> str:
        return self.table.to_html(float_format="{:.4g}".format, na_rep="", border=0)
