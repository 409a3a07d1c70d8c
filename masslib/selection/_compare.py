"""One table of everything: what each recipe saves and what it costs."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from masslib import export, measure
from masslib._util.checks import check_count
from masslib._util.cores import available_cores
from masslib._util.files import replacing
from masslib._util.progress import bar
from masslib._util.tables import as_html, as_text, bracketed
from masslib.compression.recipe import compress_each
from masslib.compression.result import Compressed
from masslib.compression.step import Step
from masslib.data import Splits
from masslib.evaluation.tasks import compiled_options
from masslib.selection.judging import Bulk, cost, quality, scored
from masslib.selection.metric import Metric, Score, mean_score

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

BASELINE = "float"


@dataclass(frozen=True, repr=False)
class Comparison:
    """What `compare` returns; the last value of a notebook cell shows the columns of its table to decide by.

    Attributes:
        table: All of it. One row per model, the float baseline first. Columns:
            - the metric, by default `accuracy`, on the test split; `low` and `high`, its 95 % interval;
            - `drop_points`, percentage points below float, of metrics that are no fractions `drop`, in their unit; and
              `drop_low` and `drop_high`, its paired 95 % interval: float and file are judged on the same rows, so that
              it is narrower than the intervals of the two. When it holds 0, the test does not tell them apart;
            - the other figures of the task, such as `macro_f1` and `auc`;
            - `valid_accuracy` and `valid_drop_points` on the validation split, to choose by: see `choose`;
            - `size_kb` and `gzipped_kb` (1000 bytes), `times_smaller` (gzipped, against float), `nonzero` (weights),
              `mflops` (millions of operations per row, see `measure.flops`);
            - `median_ms` and `p95_ms` (one row, one thread), `times_faster` than float, with `faster_low` and
              `faster_high`: see `measure.times_faster`;
            - with several seeds `lowest` and `highest`, the metric of the worst and the best of them;
            - with rivals `kind`: "float", "recipe" or "rival".
        evaluations: The full evaluation of each file on the test split; of several seeds, of the first.
        files: Where the TFLite files lie, of the first seed; empty when no folder was given.
        metric: What the files are judged by.
    """

    table: pd.DataFrame
    evaluations: dict[str, Any]
    files: dict[str, Path]
    metric: Metric = field(default_factory=Metric)

    def choose(self, max_drop: float, by: str = "gzipped_kb") -> str:
        """Return the name of the smallest file that loses no more than `max_drop` on the validation rows.

        The test rows have no say in it; so what they tell of the chosen file is no best of several tries.

        Args:
            max_drop: The accepted loss: a fraction, 0.005 being half a percentage point, or in the unit of the metric.
            by: Column of the table that is to be small.

        Raises:
            ValueError: If the table has no such column.

        Example:
            >>> columns = {"accuracy": [0.9, 0.8], "valid_drop_points": [0.0, 0.3], "gzipped_kb": [800.0, 200.0]}
            >>> report = Comparison(pd.DataFrame(columns, ["float", "int8"]), {}, {})
            >>> report.choose(0.005), report.choose(0.001)
            ('int8', 'float')
        """
        if by not in self.table.columns:
            raise ValueError(f"by={by!r} is no column of the table; it has {', '.join(map(str, self.table.columns))}")
        drops = self.table[f"valid_{self.metric.drop_column}"]
        return str(self.table.loc[drops <= self.metric.points * max_drop + 1e-9, by].idxmin())

    def plot(self) -> Figure:
        """Draw the metric against size."""
        from masslib import plot

        kinds = self.table.get("kind")
        rivals = [] if kinds is None else list(self.table.index[kinds == "rival"])
        return plot.tradeoff(
            self.table, y=self.metric.name, rivals=rivals, small_is_good=not self.metric.larger_is_better
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `comparison.csv`, with all columns, `comparison.txt` and `comparison.png` into a folder."""
        folder = Path(folder)
        with replacing(folder / "comparison.csv") as path:
            self.table.to_csv(path)
        with replacing(folder / "comparison.txt") as path:
            path.write_text(f"{self}\n")
        with replacing(folder / "comparison.png") as path:
            self.plot().savefig(path, dpi=150)

    def __repr__(self) -> str:
        return as_text(self._shown())

    def _repr_html_(self) -> str:
        return as_html(self._shown())

    def _shown(self) -> pd.DataFrame:
        """The columns to decide by, few enough to be read; intervals stand behind their figures, in brackets."""
        left_out = ["low", "high", f"valid_{self.metric.name}", "nonzero", "mflops", "p95_ms"]
        shown = self.table.drop(columns=left_out, errors="ignore")
        for of in ((self.metric.drop_column, "drop_low", "drop_high"), ("times_faster", "faster_low", "faster_high")):
            if set(of) <= set(shown.columns):
                shown = bracketed(shown, *of)
        return shown


def compare(
    model: keras.Model,
    recipes: Mapping[str, Step | Sequence[Step]],
    splits: Splits,
    *,
    rivals: Mapping[str, keras.Model | Compressed] | None = None,
    metric: Any = "accuracy",
    seeds: int = 1,
    folder: str | os.PathLike[str] | None = None,
    batch_size: int = 128,
    seed: int = 0,
    verbose: bool = True,
    custom_layers: Mapping[type, Any] | None = None,
) -> Comparison:
    """Compress a model by several recipes and measure each exported file, beside the float file.

    Every figure comes from the TFLite file itself, run by LiteRT: the metric on the validation and on the test split,
    size raw and gzipped, and latency, for which the files take turns so that a busy machine hits all of them alike.
    Choose by the validation columns, or by `Comparison.choose`, and read what it costs on the test split.

    Recipes that begin alike share the steps that they have in common, which are trained once.

    Args:
        model: A trained and compiled model.
        recipes: Name of the row -> a step or a list of steps.
        splits: `splits.train` fine-tunes and calibrates, `splits.valid` is to choose by, `splits.test` judges.
        rivals: Name of the row -> another trained model for the same data, such as a smaller one trained as long, or
            what `masslib.compress` made of one; is it the compression, or would a small network do? They are exported
            as they are.
        metric: What the files are judged by: the name of a figure of `masslib.evaluate`, a weighted sum, a function, or
            a `masslib.selection.Metric`.
        seeds: How often each recipe is run, with the seeds `seed`, `seed + 1` and so on. The table has the mean of the
            metric, `lowest` and `highest` its range, and all else of the first.
        folder: Where to keep the TFLite files, as `<name>.tflite`; thrown away if absent.
        batch_size: Rows per training step of the fine-tuning.
        seed: Seed of the fine-tuning and the calibration.
        verbose: Whether to show progress.
        custom_layers: As in `masslib.compress`.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: If there is no recipe and no rival, one has the name of the baseline, two names make the same file
            name, or the model is not judged by the metric.

    Example:
        >>> import masslib
        >>> splits = masslib.data.load("digits")
        >>> model = masslib.models.mlp(splits.input_shape, splits.num_classes)
        >>> model.compile(loss="sparse_categorical_crossentropy")
        >>> report = compare(model, {"int8": masslib.Quantize("int8")}, splits, verbose=False)
        >>> list(report.table.index)
        ['float', 'int8']
    """
    metric, rivals, told = Metric.of(metric), dict(rivals or {}), compiled_options(model)
    stems = _stems(recipes, rivals)
    options = {"batch_size": batch_size, "verbose": verbose, "custom_layers": custom_layers}
    runs = [
        compress_each(model, list(recipes.values()), splits.train, seed=seed + number, **options)
        for number in range(check_count("seeds", seeds) if recipes else 0)
    ]
    with (
        nullcontext(folder) if folder else tempfile.TemporaryDirectory() as place,
        tempfile.TemporaryDirectory() as aside,
    ):
        made = {BASELINE: [_exported(model, Path(place, f"{BASELINE}.tflite"))]}
        metric.score(made[BASELINE][0], splits.valid, told)  # before anything is trained
        made |= {name: [] for name in recipes}
        made |= {name: [_exported(rival, Path(place, f"{stems[name]}.tflite"))] for name, rival in rivals.items()}
        for number, compressed in enumerate(runs):
            for name in bar(recipes, title="compress", unit="recipe", visible=verbose):
                path = Path(aside, f"{stems[name]}_{number}.tflite") if number else Path(place, f"{stems[name]}.tflite")
                made[name].append(_compressed(compressed, name, recipes[name], path))
        everything = {str(path): path for paths in made.values() for path in paths}
        parts = {"test": splits.test, "valid": splits.valid}
        scores = {key: scored(everything, part, metric, told, verbose=verbose) for key, part in parts.items()}
        table = _table(metric, made, scores["test"], scores["valid"], splits.test[:1][0])
        evaluations = {name: scores["test"][str(paths[0])].evaluation for name, paths in made.items()}
    if rivals:
        table["kind"] = [BASELINE, *("recipe" for _ in recipes), *("rival" for _ in rivals)]
    return Comparison(table, evaluations, {name: paths[0] for name, paths in made.items()} if folder else {}, metric)


def _stems(recipes: Mapping[str, Any], rivals: Mapping[str, Any]) -> dict[str, str]:
    """Names -> names of files."""
    names = [*recipes, *rivals]
    if not names or BASELINE in names or len(set(names)) < len(names):
        raise ValueError(
            f"recipes={list(recipes)}: expected at least one, none of them named {BASELINE!r} (the baseline)"
            + (f" or as one of rivals={list(rivals)}" if rivals else "")
        )
    stems = {name: re.sub(r"\W+", "_", name).strip("_") for name in (BASELINE, *names)}
    alike = [name for name in names if not stems[name] or list(stems.values()).count(stems[name]) > 1]
    if alike:
        raise ValueError(
            f"recipes={alike}: their files would have the same name or none; let the names differ in letters or digits"
        )
    return stems


def _compressed(compressed: Iterator[Any], name: str, recipe: Any, path: Path) -> Path:
    try:
        return _exported(next(compressed), path)
    except Exception as error:
        error.add_note(f"This was the recipe {name!r}: {recipe!r}.")
        raise


def _exported(model: Any, path: Path) -> Path:
    return export.tflite(model, path, batch_size="auto")


def _table(
    metric: Metric, made: dict[str, list[Path]], tests: dict[str, Score], valid: dict[str, Score], row: Any
) -> pd.DataFrame:
    """One row per name, of which each has a file per seed; `row` is what they are timed on."""
    firsts = {name: paths[0] for name, paths in made.items()}
    times = measure.latencies(firsts, example_inputs=row)
    with ThreadPoolExecutor(available_cores()) as pool:  # gzip takes seconds, and leaves Python alone
        bulks = dict(zip(firsts, pool.map(lambda path: Bulk.of(path, row), firsts.values()), strict=True))
    several, rows = max(map(len, made.values())) > 1, {}
    for name, paths in made.items():
        (test, test_float), (held, held_float) = (
            (mean_score(scores[str(path)] for path in paths), scores[str(firsts[BASELINE])])
            for scores in (tests, valid)
        )
        first = quality(metric, tests[str(firsts[name])], test_float)
        rows[name] = {
            **(first | quality(metric, test, test_float)),
            f"valid_{metric.name}": held.value,
            f"valid_{metric.drop_column}": metric.points * metric.loss(held, held_float),
            **cost(bulks[name], times[name], bulks[BASELINE], times[BASELINE]),
        }
        if several:
            values = [tests[str(path)].value for path in paths]
            rows[name] |= {"lowest": min(values), "highest": max(values)}
    return pd.DataFrame.from_dict(rows, orient="index")
