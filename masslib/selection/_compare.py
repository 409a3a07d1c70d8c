"""One table of everything: what each recipe saves and what it costs."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from masslib import export, measure
from masslib._util.files import replacing
from masslib._util.progress import bar
from masslib._util.tables import as_html, as_text
from masslib.compression.recipe import compress_each
from masslib.compression.step import Step
from masslib.data import Splits
from masslib.evaluation import Evaluation
from masslib.evaluation.tasks import compiled_task
from masslib.selection.judging import Judged, figures, judged

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

BASELINE = "float"


@dataclass(frozen=True, repr=False)
class Comparison:
    """What `compare` returns; the last value of a notebook cell shows its table.

    Attributes:
        table: One row per model, the float baseline first. Columns: `accuracy`, `macro_f1`, `auc` (fractions,
            on the test split), `low` and `high` (95 % interval of the accuracy, see `Evaluation`), `drop_points`
            (percentage points below float), `size_kb` and `gzipped_kb` (1000 bytes), `times_smaller` (gzipped,
            against float), `nonzero` (weights), `mflops` (millions of operations per image, see `measure.flops`),
            `median_ms` and `p95_ms` (one image, one thread).
        evaluations: The full evaluation of each file.
        files: Where the TFLite files lie; empty when no folder was given.
    """

    table: pd.DataFrame
    evaluations: dict[str, Evaluation]
    files: dict[str, Path]

    def plot(self) -> Figure:
        """Draw accuracy against size."""
        from masslib import plot

        return plot.tradeoff(self.table)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `comparison.csv`, `comparison.txt` and `comparison.png` into a folder."""
        folder = Path(folder)
        with replacing(folder / "comparison.csv") as path:
            self.table.to_csv(path)
        with replacing(folder / "comparison.txt") as path:
            path.write_text(f"{self}\n")
        with replacing(folder / "comparison.png") as path:
            self.plot().savefig(path, dpi=150)

    def __repr__(self) -> str:
        return as_text(self.table)

    def _repr_html_(self) -> str:
        return as_html(self.table)


def compare(
    model: keras.Model,
    recipes: Mapping[str, Step | Sequence[Step]],
    splits: Splits,
    *,
    folder: str | os.PathLike[str] | None = None,
    batch_size: int = 128,
    seed: int = 0,
    verbose: bool = True,
    custom_layers: Mapping[type, Any] | None = None,
) -> Comparison:
    """Compress a model by several recipes and measure each exported file, beside the float file.

    Every figure comes from the TFLite file itself, run by LiteRT: accuracy on the test split, size raw and
    gzipped, and latency, for which the files take turns so that a busy machine hits all of them alike. Recipes that
    begin alike share the steps that they have in common, which are trained once.

    Args:
        model: A trained and compiled classifier.
        recipes: Name of the row -> a step or a list of steps.
        splits: `splits.train` fine-tunes and calibrates, `splits.test` judges.
        folder: Where to keep the TFLite files, as `<name>.tflite`; thrown away if absent.
        batch_size: Rows per training step of the fine-tuning.
        seed: Seed of the fine-tuning and the calibration.
        verbose: Whether to show progress.
        custom_layers: As in `masslib.compress`.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: If there is no recipe, one has the name of the baseline, or two names make the same file name.

    Example:
        >>> import masslib
        >>> splits = masslib.data.load("digits")
        >>> model = masslib.models.mlp(splits.input_shape, splits.num_classes)
        >>> model.compile(loss="sparse_categorical_crossentropy")
        >>> report = compare(model, {"int8": masslib.Quantize("int8")}, splits, verbose=False)
        >>> list(report.table.index)
        ['float', 'int8']
    """
    if not recipes or BASELINE in recipes:
        raise ValueError(
            f"recipes={list(recipes)}: expected at least one, none of them named {BASELINE!r} (the baseline)"
        )
    task = compiled_task(model)
    if task == "regression" or (task == "auto" and splits.test.y.dtype.kind == "f"):
        raise ValueError("compare judges classifiers by their accuracy, and these labels are quantities")
    stems = {name: _file_name(name) for name in (BASELINE, *recipes)}
    alike = [name for name in recipes if not stems[name] or list(stems.values()).count(stems[name]) > 1]
    if alike:
        raise ValueError(
            f"recipes={alike}: their files would have the same name or none; let the names differ in letters or digits"
        )
    options = {"batch_size": batch_size, "seed": seed, "verbose": verbose, "custom_layers": custom_layers}
    compressed = compress_each(model, list(recipes.values()), splits.train, **options)
    with nullcontext(folder) if folder else tempfile.TemporaryDirectory() as place:
        files = {BASELINE: export.tflite(model, Path(place, f"{BASELINE}.tflite"), batch_size="auto")}
        for name in bar(recipes, title="compress", unit="recipe", visible=verbose):
            try:
                small = next(compressed)
                files[name] = export.tflite(small, Path(place, f"{stems[name]}.tflite"), batch_size="auto")
            except Exception as error:
                error.add_note(f"This was the recipe {name!r}: {recipes[name]!r}.")
                raise
        found = judged(files, splits.test, task=task, verbose=verbose)
        table = _table(found, measure.latencies(files))
    evaluations = {name: file.evaluation for name, file in found.items()}
    return Comparison(table, evaluations, files if folder else {})


def _file_name(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_")


def _table(files: dict[str, Judged], latencies: dict[str, measure.Latency]) -> pd.DataFrame:
    rows = {name: figures(file, latencies[name], files[BASELINE], latencies[BASELINE]) for name, file in files.items()}
    return pd.DataFrame.from_dict(rows, orient="index").drop(columns="times_faster")
