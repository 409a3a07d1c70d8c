"""What `search` returns."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from masslib._util.tables import as_html, as_text
from masslib.compression.result import Compressed
from masslib.evaluation import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from masslib.selection._sensitivity import Sensitivity
    from masslib.selection.trials import Trial


@dataclass(frozen=True, repr=False)
class Search:
    """The best model that a search has found, and all that it has tried.

    Attributes:
        best: The compressed model; without steps when no trial was accepted.
        name: Its row in the table; `"float"` when no trial was accepted.
        table: One row per trial, the float file first. Columns: `accepted` (whether the accuracy on the validation
            split stayed within the budget), `accuracy` (on the validation split), `drop_points` (percentage points
            below float), `size_kb` and `gzipped_kb` (1000 bytes), `times_smaller` (gzipped), `nonzero` (weights),
            `mflops`, `median_ms`, `times_faster`, with `objective="packed"` also `packed_kb`, `seconds` (that the trial
            took), `recipe` (the steps), `note` (why a trial could not be made; shown below the table).
        test: `"float"` and `"best"` -> `Evaluation` on the test split, which the search never looked at before.
        sensitivity: What the sparsity of each layer was taken from.
        file: The TFLite file of the best model, or its packed one where that is the objective; None when no folder was
            given.
        stopped: Why the search ended.
        max_drop: The accepted loss of accuracy on the validation split, a fraction.
    """

    best: Compressed
    name: str
    table: pd.DataFrame
    test: dict[str, Evaluation]
    sensitivity: Sensitivity | None
    file: Path | None
    stopped: str
    max_drop: float

    def plot(self) -> Figure:
        """Draw accuracy on the validation split against size, one point per trial; those refused are hollow."""
        from masslib import plot

        table = self.table.dropna(subset="gzipped_kb").rename(columns={"accuracy": "valid_accuracy"})
        return plot.tradeoff(table, y="valid_accuracy", limit=table["valid_accuracy"]["float"] - self.max_drop)

    def __repr__(self) -> str:
        return "\n".join([self._title(), as_text(self._shown()), *self._remarks()])

    def _repr_html_(self) -> str:
        remarks = "<br>".join(html.escape(remark) for remark in self._remarks())
        return f"<p>{self._title()}</p>{as_html(self._shown())}{remarks}"

    def _shown(self) -> pd.DataFrame:
        return self.table.drop(columns=["recipe", "note"])

    def _remarks(self) -> list[str]:
        notes = self.table["note"][self.table["note"] != ""]
        return [f"not made: {name}, {' '.join(note.split())}" for name, note in notes.items()]

    def _title(self) -> str:
        best, plain = self.test["best"].accuracy, self.test["float"].accuracy
        return f"best: {self.name}; test accuracy {best:.4f}, float {plain:.4f}; {self.stopped}"


def table_of(baseline: dict[str, float], trials: Sequence[Trial]) -> pd.DataFrame:
    """One row per trial, below that of the float file."""
    rows: dict[str, dict[str, Any]] = {"float": {"accepted": True, **baseline, "recipe": "", "note": ""}}
    for trial in trials:
        rows[trial.name] = {"accepted": trial.accepted, **trial.figures, "recipe": trial.recipe, "note": trial.note}
    columns = ["accepted", *baseline, "seconds", "recipe", "note"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)
