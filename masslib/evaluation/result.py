"""`Evaluation`: the figures of one model on one data set."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FIGURES = {
    "multiclass": ("accuracy", "macro_f1", "auc"),
    "multilabel": ("accuracy", "micro_f1", "macro_f1", "auc"),
    "binary": ("accuracy", "precision", "recall", "f1", "auc"),
    "regression": ("mae", "rmse", "r2"),
}


@dataclass(frozen=True)
class Evaluation:
    """The quality of one model on one data set; made by `evaluate`.

    Figures that do not belong to the task are None; one that belongs to it but is undefined for the data
    (AUC with a class absent) is NaN. `mae`, `rmse` and `r2` apart, figures are
    fractions.

    Attributes:
        task: `"multiclass"`, `"binary"`, `"multilabel"` or `"regression"`.
        n: Number of rows.
        accuracy: Share of rows whose most probable class is the true one (top-1); for multilabel, of rows all of whose
            labels are right (subset accuracy), each predicted above a probability of 0.5.
        accuracy_interval: `(low, high)`, the 95 % Wilson score interval of `accuracy`.
        macro_f1: Mean F1 over the classes that occur among labels or predictions (multiclass), or over all labels
            (multilabel).
        micro_f1: F1 over all labels of all rows together (multilabel).
        precision: True positives / predicted positives (binary).
        recall: True positives / actual positives (binary).
        f1: Harmonic mean of precision and recall (binary).
        auc: Area under the ROC curve; for several classes or labels one-vs-rest, the mean over them.
        mae: Mean absolute error, in the unit of the labels.
        rmse: Root mean squared error, in the unit of the labels.
        r2: Coefficient of determination; 1 is perfect, 0 as good as the mean.
        confusion: Counts, `(k, k)`; rows are true classes, columns predicted ones.
        classes: Names of the classes, or None.
    """

    task: str
    n: int
    accuracy: float | None = None
    accuracy_interval: tuple[float, float] | None = None
    macro_f1: float | None = None
    micro_f1: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    auc: float | None = None
    mae: float | None = None
    rmse: float | None = None
    r2: float | None = None
    confusion: np.ndarray | None = field(default=None, compare=False)
    classes: tuple[str, ...] | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """The scalar figures of the task, by name."""
        return {name: getattr(self, name) for name in _FIGURES[self.task]}

    def plot(self) -> Figure:
        """Draw the confusion matrix with `masslib.plot.confusion`.

        Raises:
            ValueError: For a regression and several labels per row, which have none.
        """
        if self.confusion is None:
            raise ValueError(
                f"A {self.task} evaluation has no confusion matrix to plot; read .metrics, or pass task='binary' or "
                "'multiclass' to evaluate() if the labels are classes."
            )
        from masslib import plot

        return plot.confusion(self.confusion, self.classes)

    def _rows(self) -> list[tuple[str, str]]:
        rows = [(name, f"{value:.4g}") for name, value in self.metrics.items()]
        if self.accuracy_interval is not None:
            low, high = self.accuracy_interval
            rows[0] = ("accuracy", f"{rows[0][1]} [{low:.4g}, {high:.4g}]")
        return rows

    def __repr__(self) -> str:
        figures = ", ".join(f"{name} {value}" for name, value in self._rows())
        return f"Evaluation({self.task}, n={self.n}: {figures})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in self._rows())
        note = "; in brackets: 95 % interval" if self.accuracy_interval else ""
        return f"<table><caption>{self.task}, {self.n:,} rows{note}</caption>{rows}</table>"
