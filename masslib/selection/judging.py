"""What every judge asks of an exported file: how good, how big, how fast."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masslib import measure
from masslib._util.cores import available_cores
from masslib._util.progress import bar
from masslib.selection.metric import Metric, Score


@dataclass(frozen=True)
class Bulk:
    """How big a file is.

    Attributes:
        size: Bytes, raw and gzipped.
        nonzero: Weights that are not zero.
        mflops: Millions of operations per row.
    """

    size: measure.FileSize
    nonzero: int
    mflops: float

    @classmethod
    def of(cls, path: Path, row: Any) -> Bulk:
        """That of a TFLite file, whose work is counted for a row of inputs."""
        return cls(measure.file_size(path), measure.nonzero(path), measure.flops(path, example_inputs=row) / 1e6)


def scored(
    files: Mapping[str, Path], data: Any, metric: Metric, told: Mapping[str, Any], *, verbose: bool = False
) -> dict[str, Score]:
    """Judge exported files on a split.

    Args:
        files: Name -> path.
        data: As for `masslib.evaluate`.
        metric: What they are judged by.
        told: What the compiled loss of the model tells; files do not.
        verbose: Whether to show progress.
    """
    # Runtimes leave Python alone while they compute, each on one core.
    with ThreadPoolExecutor(available_cores()) as pool:
        found = pool.map(lambda path: metric.score(path, data, told), files.values())
        shown = bar(found, title="evaluate", unit="file", visible=verbose, total=len(files))
        return dict(zip(files, shown, strict=True))


def quality(metric: Metric, score: Score, baseline: Score) -> dict[str, float]:
    """Return what tables tell of how good a model is, beside the float file on the same rows."""
    low, high = (metric.points * bound for bound in metric.loss_interval(score, baseline))
    row = {
        metric.name: score.value,
        "low": score.low,
        "high": score.high,
        metric.drop_column: metric.points * metric.loss(score, baseline),
        "drop_low": low,
        "drop_high": high,
    }
    others = {} if score.evaluation is None else score.evaluation.metrics
    return row | {name: value for name, value in others.items() if name not in row}


def cost(file: Bulk, latency: measure.Latency, baseline: Bulk, baseline_latency: measure.Latency) -> dict[str, float]:
    """Return what tables tell of size and time, beside the float file, timed in the same turns."""
    faster, slowest, quickest = measure.times_faster(latency, baseline_latency)
    return {
        "size_kb": file.size.raw / 1000,
        "gzipped_kb": file.size.gzipped / 1000,
        "times_smaller": baseline.size.gzipped / file.size.gzipped,
        "nonzero": file.nonzero,
        "mflops": file.mflops,
        "median_ms": latency.median_ms,
        "p95_ms": latency.p95_ms,
        "times_faster": faster,
        "faster_low": slowest,
        "faster_high": quickest,
    }
