"""`fastest`: which file is the best on this machine, by measurement."""

from __future__ import annotations

import atexit
import importlib.util
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from masslib import measure
from masslib._util import extras
from masslib._util.progress import bar
from masslib._util.tables import as_html, as_text
from masslib.compression import Quantize, compress
from masslib.evaluation.tasks import compiled_options
from masslib.export._onnx import onnx
from masslib.export._openvino import openvino
from masslib.export._packed import packed
from masslib.export._tflite import tflite
from masslib.selection.judging import quality
from masslib.selection.metric import Metric, Score

if TYPE_CHECKING:
    import keras

    from masslib.data import Splits

BASELINE = "LiteRT float32"
# Name -> its precision, how the file is written, its suffix, and the packages that it takes.
_ONNX = ("onnx", "onnxruntime", "tf2onnx")
_CANDIDATES: dict[str, tuple[str, Callable, str, tuple[str, ...]]] = {
    BASELINE: ("float32", tflite, ".tflite", ()),
    "LiteRT dynamic": ("dynamic", tflite, ".tflite", ()),
    "LiteRT int8": ("int8", tflite, ".tflite", ()),
    "packed float32": ("float32", packed, ".packed", ()),
    "packed dynamic": ("dynamic", packed, ".packed", ()),
    "packed int8": ("int8", packed, ".packed", ()),
    "ONNX float32": ("float32", onnx, ".onnx", _ONNX),
    "ONNX int8": ("int8", onnx, ".onnx", _ONNX),
    "OpenVINO float32": ("float32", openvino, ".xml", ("openvino",)),
    "OpenVINO bfloat16": ("bfloat16", openvino, ".xml", ("openvino",)),
    "OpenVINO int8": ("int8", openvino, ".xml", ("openvino", *_ONNX)),
}
# Rows of the data that the files are checked on
_EXAMPLES = 64
_OBJECTIVES = {"latency": "median_ms", "size": "size_kb"}


@dataclass(frozen=True, repr=False)
class Fastest:
    """What `fastest` returns; the last value of a notebook cell shows its table.

    Attributes:
        name: The row of the table that won.
        path: Its file, for `masslib.export.load`.
        table: One row per file. Columns: `median_ms` and `p95_ms` (one call), `times_faster` (than `"LiteRT float32"`),
            `size_kb` (1000 bytes), the metric, by default `accuracy` (on the validation split), `drop_points`
            (percentage points below `"LiteRT float32"`; of metrics that are no fractions `drop`, in their unit) and
            `verdict` ("chosen", "allowed", "slower than float" or "less accurate").
        files: All files by name.
        skipped: Files that were not made, with the reason.
        test: What the winner is worth on the test split, which had no say: the metric, its interval (`low`, `high`),
            and the loss against `"LiteRT float32"` with its paired interval (`drop_points`, `drop_low`, `drop_high`).
    """

    name: str
    path: Path
    table: pd.DataFrame
    files: dict[str, Path]
    skipped: dict[str, str]
    test: dict[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        return as_text(self.table) + self._remarks("\n")

    def _repr_html_(self) -> str:
        import html

        return as_html(self.table) + self._remarks("<br>", html.escape)

    def _remarks(self, newline: str, escape: Callable[[str], str] = str) -> str:
        return "".join(f"{newline}{escape(f'not made: {name}, {why}')}" for name, why in self.skipped.items())


def fastest(
    model: keras.Model,
    splits: Splits,
    folder: str | os.PathLike[str] | None = None,
    *,
    objective: str = "latency",
    max_drop: float = 0.001,
    metric: Any = "accuracy",
    batch_size: int = 1,
    threads: int = 1,
    seed: int = 0,
    verbose: bool = True,
) -> Fastest:
    """Export a model to every format whose runtime is installed, measure each file here, and pick the best.

    Which format is the fastest depends on the network and on the processor, so it is measured and not guessed. The
    candidates are LiteRT in float32, dynamic and int8, ONNX in float32 and int8 (the extra `onnx`), and OpenVINO in
    float32, bfloat16 and int8 (the extra `openvino`); where size is what counts, also the files of LiteRT packed (see
    `masslib.export.packed`). Their calls take turns. A file that is slower than LiteRT in float32, or loses too much of
    the metric, is never picked.

    Args:
        model: A trained Keras 3 model.
        splits: `splits.train` calibrates the int8 files, `splits.valid` tells the metric; the winner alone is looked at
            on the test split, at the end.
        folder: Where to keep the files; by default a temporary folder that lives as long as the process.
        objective: `"latency"` picks the shortest median time of a call, `"size"` the fewest bytes.
        max_drop: How much may be lost against LiteRT in float32: a fraction, or in the unit of the metric.
        metric: What is judged by: the name of a figure of `masslib.evaluate`, a weighted sum, a function, or a
            `masslib.selection.Metric`.
        batch_size: Rows per timed call.
        threads: CPU threads of every runtime.
        seed: Seed of the choice of calibration rows.
        verbose: Whether to show progress.

    Returns:
        A `Fastest`: the winner, and the table of all.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If an argument is out of range, or `model` is not judged by the metric.

    Example:
        >>> import masslib
        >>> splits = masslib.data.load("digits")
        >>> model = masslib.models.mlp(splits.input_shape, splits.num_classes)
        >>> result = masslib.fastest(model, splits, max_drop=1.0, verbose=False)
        >>> bool(result.table.loc[result.name, "median_ms"] <= result.table.loc["LiteRT float32", "median_ms"])
        True
    """
    if objective not in _OBJECTIVES:
        raise ValueError(f"objective={objective!r}: expected 'latency' or 'size'")
    metric, told = Metric.of(metric), compiled_options(model)
    if not 0 <= max_drop <= (1 if metric.is_fraction else math.inf):
        raise ValueError(f"max_drop={max_drop!r}: expected a fraction from 0 to 1, 0.001 being a tenth of a point")
    place = Path(folder or tempfile.mkdtemp())
    try:
        files, skipped = _write(model, splits, place, objective, seed, verbose)
        scores = {
            name: metric.score(path, splits.valid, told)
            for name, path in bar(files.items(), title="evaluate", unit="file", visible=verbose)
        }
        table = _measure(files, metric, scores, splits.valid[:batch_size][0], batch_size, threads)
        name = judge(table, _OBJECTIVES[objective], max_drop, metric)
        test = {key: metric.score(files[key], splits.test, told) for key in (BASELINE, name)}
    except BaseException:
        if folder is None:
            shutil.rmtree(place)
        raise
    if folder is None:
        # Not with the result: its path may be all that is kept of it.
        atexit.register(shutil.rmtree, place, ignore_errors=True)
    return Fastest(name, files[name], table, files, skipped, quality(metric, test[name], test[BASELINE]))


def _write(
    model: keras.Model, splits: Splits, folder: Path, objective: str, seed: int, verbose: bool
) -> tuple[dict[str, Path], dict[str, str]]:
    """The files by name, and why others were not made."""
    files: dict[str, Path] = {}
    skipped: dict[str, str] = {}
    # What is packed is as fast as what is not.
    candidates = {name: how for name, how in _CANDIDATES.items() if how[1] is not packed or objective == "size"}
    for name, (precision, write, suffix, packages) in bar(
        candidates.items(), title="export", unit="file", visible=verbose
    ):
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        if missing:
            skipped[name] = f"{missing[0]} is not installed: {extras.command(*missing)}"
            continue
        options: dict[str, Any] = {"example_inputs": splits.valid[:_EXAMPLES][0]}
        if write in (tflite, packed):
            options["batch_size"] = "auto"
        if precision == "bfloat16":
            options["compute"] = "bfloat16"
        quantized = precision in ("dynamic", "int8")
        try:
            small = compress(model, Quantize(precision), splits.train, seed=seed, verbose=False) if quantized else model
            files[name] = write(small, folder / (name.replace(" ", "_") + suffix), **options)
        except ValueError as error:
            if name == BASELINE:
                raise
            skipped[name] = str(error)
    return files, skipped


def _measure(
    files: dict[str, Path], metric: Metric, scores: dict[str, Score], rows: Any, batch_size: int, threads: int
) -> pd.DataFrame:
    timed = measure.latencies(files, batch_size=batch_size, threads=threads, runs=400, example_inputs=rows)
    return pd.DataFrame(
        {
            "median_ms": [timed[name].median_ms for name in files],
            "p95_ms": [timed[name].p95_ms for name in files],
            "times_faster": [measure.times_faster(timed[name], timed[BASELINE])[0] for name in files],
            "size_kb": [measure.file_size(path).raw / 1000 for path in files.values()],
            metric.name: [scores[name].value for name in files],
            metric.drop_column: [metric.points * metric.loss(scores[name], scores[BASELINE]) for name in files],
        },
        index=list(files),
    )


def judge(table: pd.DataFrame, column: str, max_drop: float, metric: Metric) -> str:
    """Add the verdicts to the table and return the name of the winner."""
    slower = table["median_ms"] > table.loc[BASELINE, "median_ms"]
    worse = table[metric.drop_column] > metric.points * max_drop + 1e-9
    table["verdict"] = "allowed"
    table.loc[slower, "verdict"] = "slower than float"
    table.loc[worse, "verdict"] = "less accurate" if metric.name == "accuracy" else f"worse {metric.name}"
    winner = table.loc[table["verdict"] == "allowed", column].idxmin()
    table.loc[winner, "verdict"] = "chosen"
    return winner
