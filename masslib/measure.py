"""How big and how fast an exported model is."""

from __future__ import annotations

import contextlib
import math
import os
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from masslib import runtime
from masslib._util.checks import check_counts
from masslib.formats._flops import flops, nonzero
from masslib.formats.tflite import sparsity, weights
from masslib.runtime import ensembles
from masslib.runtime.example import batch
from masslib.runtime.unpacking import SUFFIX

__all__ = [
    "FileSize",
    "Latency",
    "file_size",
    "flops",
    "latencies",
    "latency",
    "nonzero",
    "sparsity",
    "times_faster",
    "weights",
]

_READ_BYTES = 2**20
_LEAST_RUNS = 20
_BLOCK = 10


class FileSize(NamedTuple):
    """Size of an exported model in bytes, as it lies on disk and as it travels."""

    raw: int
    gzipped: int


@dataclass(frozen=True)
class Latency:
    """Time of one call of `predict`, made by `latency` and `latencies`.

    Attributes:
        median_ms: Median over the runs, in ms.
        p95_ms: 95th percentile over the runs, in ms.
        runs: Timed calls that were really made.
        batch_size: Rows per call.
        threads: CPU threads the model was loaded with; None where masslib did not set them (a model
            loaded by the caller, or a format that TensorFlow runs with its own setting).
        turns_ms: Median of each turn of 10 calls, in ms; the turns of models that were timed together follow one
            another, so that they can be compared turn by turn.
    """

    median_ms: float
    p95_ms: float
    runs: int
    batch_size: int
    threads: int | None
    turns_ms: tuple[float, ...] = field(default=(), repr=False, compare=False)


def times_faster(one: Latency, baseline: Latency) -> tuple[float, float, float]:
    """How many times faster one model is than another that was timed in the same call of `latencies`.

    Milliseconds depend on the machine, its clock and what else runs on it; the ratio within one turn does so far less.

    Args:
        one: Latency of a model.
        baseline: Latency of the model that it is compared with.

    Returns:
        `(median, low, high)` of the ratios turn by turn; between the bounds lie nine tenths of them.

    Example:
        >>> slow, fast = (Latency(ms, ms, 30, 1, 1, turns_ms=(ms, ms, 2 * ms)) for ms in (0.5, 0.25))
        >>> times_faster(fast, slow)
        (2.0, 2.0, 2.0)
    """
    pairs = list(zip(baseline.turns_ms, one.turns_ms, strict=False))
    if not pairs:
        ratio = baseline.median_ms / one.median_ms
        return ratio, math.nan, math.nan
    low, median, high = np.percentile([slow / fast for slow, fast in pairs], [5, 50, 95])
    return float(median), float(low), float(high)


def file_size(path: str | os.PathLike[str]) -> FileSize:
    """Measure the size of a file or folder in bytes, as it is and gzipped.

    `gzipped` is the length of `gzip.compress(content, 9, mtime=0)`, summed over the files; so it depends on
    the contents alone. Files are read in pieces of 1 MiB, whatever their size.

    Args:
        path: An exported file, or a folder such as a SavedModel, all files of which count. OpenVINO's `.xml` counts
            together with the `.bin` beside it, an `.ensemble` file with its members. A `.packed` file is not gzipped
            again.

    Returns:
        A `FileSize(raw, gzipped)` in bytes.

    Raises:
        FileNotFoundError: If nothing lies at `path`.
        ValueError: If the folder holds no files.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "zeros.bin"
        >>> _ = path.write_bytes(bytes(100_000))
        >>> file_size(path)
        FileSize(raw=100000, gzipped=132)
    """
    path = _existing(path)
    files = [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.is_file()]
    if path.suffix == ".xml" and path.with_suffix(".bin").is_file():
        files.append(path.with_suffix(".bin"))
    if path.suffix == ensembles.SUFFIX:
        parts = [file_size(member) for member in ensembles.files(path)[1:]]
        own = FileSize(*_sizes(path))
        return FileSize(*map(sum, zip(own, *parts, strict=True)))
    if not files:
        raise ValueError(f"{path} holds no files; expected an exported model")
    sizes = [_sizes(file) for file in files]
    raw = sum(raw for raw, _ in sizes)
    if path.suffix == SUFFIX:  # travels as it is
        return FileSize(raw, raw)
    return FileSize(raw, sum(gzipped for _, gzipped in sizes))


def latency(
    model: Any,
    *,
    batch_size: int = 1,
    threads: int = 1,
    runs: int = 200,
    warmup: int = 20,
    seed: int = 0,
    max_seconds: float = 5.0,
    example_inputs: Any = None,
) -> Latency:
    """Time `predict` of one model; see `latencies`, of which this is the case of one model.

    Args:
        model: Path of an exported file, or a loaded `masslib.runtime.Predictor`.
        batch_size: Rows per call.
        threads: CPU threads for a file whose runtime can be told.
        runs: Timed calls.
        warmup: Calls that are not timed.
        seed: Of the random batch.
        max_seconds: Time limit, in s; at least 20 runs.
        example_inputs: Rows of your data to time it on, for models with open sizes.

    Returns:
        The `Latency`.

    Example:
        >>> class Doubler:
        ...     input_shape = (4,)
        ...     def predict(self, x, *, batch_size):
        ...         return 2 * x
        >>> latency(Doubler(), runs=50).runs
        50
    """
    options = {"batch_size": batch_size, "threads": threads, "runs": runs, "warmup": warmup}
    return latencies({"model": model}, **options, seed=seed, max_seconds=max_seconds, example_inputs=example_inputs)[
        "model"
    ]


def latencies(
    models: Mapping[str, Any],
    *,
    batch_size: int = 1,
    threads: int = 1,
    runs: int = 200,
    warmup: int = 20,
    seed: int = 0,
    max_seconds: float = 5.0,
    example_inputs: Any = None,
) -> dict[str, Latency]:
    """Time `predict` of several models in turns, so that they can be compared with each other.

    The models take turns of a few calls each, in changing order, so that a machine that slows down slows
    all of them alike. Every call is timed by itself, on one random batch that stays the same.

    Args:
        models: Name -> path of an exported file, which is loaded for the measurement, or a loaded
            `masslib.runtime.Predictor`.
        batch_size: Rows per call.
        threads: CPU threads for the files among `models` whose runtime can be told: `.tflite`, `.onnx`, OpenVINO.
        runs: Timed calls per model.
        warmup: Calls per model that are not timed.
        seed: Of the random batch, uniform in [0, 1); zeros and ones for models that take whole numbers.
        max_seconds: Time limit per model, in s, for the timed calls and once more for the warm-up; at least 20 runs.
        example_inputs: Rows `(n, ...)` of your data, in the structure that the models take, which make the batch
            instead of random numbers: the first ones, over and over if there are too few. Models with open sizes, such
            as texts of any length, need them.

    Returns:
        Name -> `Latency`, in the order of `models`.

    Raises:
        FileNotFoundError: If nothing lies at a path.
        TypeError: If a model is neither a path nor loaded.
        ValueError: If a number is out of range, `models` is empty, or an input shape has open dimensions and
            there are no `example_inputs`.

    Example:
        >>> from masslib.models import mlp
        >>> from masslib.export import load, tflite
        >>> import tempfile
        >>> path = tflite(mlp((4,), 3), tempfile.mkdtemp() + "/mlp.tflite")
        >>> times = latencies({"one row": path, "loaded": load(path)}, runs=50)
        >>> [(name, time.runs) for name, time in times.items()]
        [('one row', 50), ('loaded', 50)]

    References:
        Random interleaving of repetitions: Google Benchmark, `--benchmark_enable_random_interleaving`.
    """
    check_counts(batch_size=(batch_size, 1), threads=(threads, 1), runs=(runs, 1), warmup=(warmup, 0))
    if not max_seconds > 0:
        raise ValueError(f"max_seconds={max_seconds!r}: expected a positive number of seconds")
    if not isinstance(models, Mapping) or not models:
        raise ValueError(f"models={models!r}: expected a dict of at least one name and its path or Predictor")
    with contextlib.ExitStack() as stack:
        timers = {
            name: _Timer(
                *loaded, batch(name, loaded[0], batch_size, seed, example_inputs), batch_size, runs, max_seconds
            )
            for name, loaded in ((name, _loaded(name, model, threads, stack)) for name, model in models.items())
        }
        for timer in timers.values():
            timer.warm_up(warmup)
        order = list(timers.values())
        while any(not timer.finished() for timer in order):
            for timer in order:
                timer.run_block()
            order.reverse()
        return {name: timer.result() for name, timer in timers.items()}


class _Timer:
    """The timed calls of one model on its fixed batch."""

    def __init__(self, model: Any, threads: int | None, x: Any, batch_size: int, runs: int, max_seconds: float):
        self._predict, self._x, self._batch_size = model.predict, x, batch_size
        self._threads, self._runs, self._max_ns = threads, runs, max_seconds * 1e9
        self._times: list[int] = []
        self._turns: list[float] = []
        self._spent_ns = 0

    def warm_up(self, calls: int) -> None:
        end = time.perf_counter_ns() + self._max_ns
        for _ in range(calls):
            self._predict(self._x, batch_size=self._batch_size)
            if time.perf_counter_ns() > end:
                break

    def run_block(self) -> None:
        if self.finished():
            return
        # Not timed: the caches still hold the other models, which makes this call up to a fifth slower.
        self._predict(self._x, batch_size=self._batch_size)
        first = len(self._times)
        for _ in range(_BLOCK):
            if self.finished():
                break
            start = time.perf_counter_ns()
            self._predict(self._x, batch_size=self._batch_size)
            self._times.append(time.perf_counter_ns() - start)
            self._spent_ns += self._times[-1]
        self._turns.append(float(np.median(self._times[first:])) / 1e6)

    def finished(self) -> bool:
        made = len(self._times)
        return made >= self._runs or (made >= _LEAST_RUNS and self._spent_ns >= self._max_ns)

    def result(self) -> Latency:
        median, p95 = np.percentile(self._times, [50, 95]) / 1e6
        return Latency(float(median), float(p95), len(self._times), self._batch_size, self._threads, tuple(self._turns))


def _loaded(name: str, model: Any, threads: int, stack: contextlib.ExitStack) -> tuple[Any, int | None]:
    """Something with `predict`, and its number of threads if masslib set it."""
    if isinstance(model, str | os.PathLike):
        predictor = stack.enter_context(contextlib.closing(runtime.load(_existing(model), threads=threads)))
        return predictor, predictor.threads
    # Keras models have both names too, but their predict() sets up a data pipeline at every call.
    if not hasattr(model, "predict") or not hasattr(model, "input_shape") or hasattr(model, "fit"):
        raise TypeError(
            f"{name!r} is a {type(model).__name__}; expected the path of an exported file or a loaded "
            "Predictor; export a Keras model first, its predict() costs milliseconds by itself"
        )
    return model, getattr(model, "threads", None)


def _existing(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; export a model there first")
    return path


def _sizes(file: Path) -> tuple[int, int]:
    raw = gzipped = 0
    # 31: a window of 2**15 and a gzip header, which zlib writes with no name and a time of 0.
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    with open(file, "rb") as stream:
        while piece := stream.read(_READ_BYTES):
            raw += len(piece)
            gzipped += len(packer.compress(piece))
    return raw, gzipped + len(packer.flush())
