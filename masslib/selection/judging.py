"""What every judge asks of an exported file: how good, how big, how fast."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masslib import measure
from masslib._util.progress import bar
from masslib.evaluation import Evaluation, evaluate


@dataclass(frozen=True)
class Judged:
    """What does not depend on the machine.

    Attributes:
        evaluation: How good it is.
        size: Bytes, raw and gzipped.
        nonzero: Weights that are not zero.
        mflops: Millions of operations per row.
    """

    evaluation: Evaluation
    size: measure.FileSize
    nonzero: int
    mflops: float


def judged(files: Mapping[str, Path], data: Any, *, task: str = "auto", verbose: bool = False) -> dict[str, Judged]:
    """Evaluate TFLite files of a classifier on a split, and measure their sizes.

    Args:
        files: Name -> path.
        data: As for `masslib.evaluate`.
        task: As for `masslib.evaluate`; files do not tell the loss of the model that they come from.
        verbose: Whether to show progress.

    Raises:
        ValueError: If the labels are quantities.
    """

    def one(path: Path) -> Judged:
        result = evaluate(path, data, task=task)
        if result.accuracy is None:
            raise ValueError("files are judged by the accuracy of classifiers, and these labels are quantities")
        return Judged(result, measure.file_size(path), measure.nonzero(path), measure.flops(path) / 1e6)

    # LiteRT and zlib leave Python alone while they compute, each on one core.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(one, files.values())
        shown = bar(found, title="evaluate", unit="file", visible=verbose, total=len(files))
        return dict(zip(files, shown, strict=True))


def figures(
    file: Judged, latency: measure.Latency, baseline: Judged, baseline_latency: measure.Latency
) -> dict[str, float]:
    """Return what tables tell of a file, beside the float file, timed in the same turn: what slows one slows both."""
    result = file.evaluation
    return {
        "accuracy": result.accuracy,
        "low": result.accuracy_interval[0],
        "high": result.accuracy_interval[1],
        "drop_points": 100 * (baseline.evaluation.accuracy - result.accuracy),
        "macro_f1": result.macro_f1,
        "auc": result.auc,
        "size_kb": file.size.raw / 1000,
        "gzipped_kb": file.size.gzipped / 1000,
        "times_smaller": baseline.size.gzipped / file.size.gzipped,
        "nonzero": file.nonzero,
        "mflops": file.mflops,
        "median_ms": latency.median_ms,
        "p95_ms": latency.p95_ms,
        "times_faster": baseline_latency.median_ms / latency.median_ms,
    }
