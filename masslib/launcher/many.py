"""`train_many`: several trainings side by side, each in a process of its own."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import re
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from masslib._util.checks import check_counts
from masslib._util.mapping import called
from masslib._util.progress import bar
from masslib.launcher import child
from masslib.launcher.errors import WorkerError
from masslib.launcher.group import shipped
from masslib.launcher.process import Failure, Process
from masslib.launcher.tasks import CORES, Task

_POLL_SECONDS = 0.05
_PATIENCE = 5.0
_ONE_THREAD = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "MASSLIB_THREADS")


@dataclass(frozen=True)
class Trained:
    """One training of `train_many` that has ended.

    Attributes:
        name: As passed.
        error: Why it failed, or None.
        seconds: How long it took.
        log: Path of its log file; None on an engine.
    """

    name: str
    error: WorkerError | None
    seconds: float
    log: Path | None
    _model: Any = field(default=None, repr=False)

    @property
    def model(self) -> Any:
        """What the function has returned.

        Raises:
            WorkerError: If it failed.
        """
        if self.error is not None:
            raise self.error
        return self._model


def train_many(
    builders: Mapping[str, Callable[..., Any]] | Sequence[Callable[..., Any]],
    splits: Any,
    *,
    workers: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    logs: str | os.PathLike[str] | None = None,
    on: Any = None,
    verbose: bool = True,
) -> Iterator[Trained]:
    """Run several trainings side by side, each in a process of its own on one core; they come as they end.

    The processes see no accelerator, which they would have to share. What one trains depends on nothing but its
    function and the data, whatever the order or the number of workers. A process that fails or is killed loses its own
    training alone: the others go on, and its `Trained.model` raises. When the call is repeated with the same
    `checkpoint`, a `masslib.fit` that was given its folder goes on from there, and one that had ended returns at once.

    Args:
        builders: Name -> function `(splits)`, or `(splits, checkpoint)`, that builds a model, trains and returns it: a
            Keras model, an estimator, or anything else that can be pickled. A list gets numbers for names.
            `functools.partial` passes seeds and other settings.
        splits: What they get, such as `masslib.data.load(...)`, copied into every process.
        workers: Trainings at once; by default one per core.
        checkpoint: Folder in which each training has a folder of its name, passed as `checkpoint`.
        logs: Folder for log files, by name; by default a new one among the temporary files.
        on: Where they run: None: here. A `SparkSession`, `"ray"`, an `Executor` or whatever maps, as for `search`:
            it decides how many run at once, and the results come together at the end, without log files.
        verbose: Whether to show progress.

    Returns:
        An iterator over `Trained`, in the order in which they end. Leaving it early ends those that still run.

    Raises:
        TypeError: If a function cannot be shipped.
        ValueError: If there is none, two have the same folder, or a number is out of range.

    Example:
        >>> import masslib, functools
        >>> def train(splits, seed):
        ...     return splits["rows"] * seed
        >>> builders = {f"seed {seed}": functools.partial(train, seed=seed) for seed in (1, 2)}
        >>> found = masslib.train_many(builders, {"rows": 3}, verbose=False)
        >>> sorted((it.name, it.model) for it in found)
        [('seed 1', 3), ('seed 2', 6)]
    """
    named = dict(builders) if isinstance(builders, Mapping) else {str(n): it for n, it in enumerate(builders)}
    places = {name: re.sub(r"\W+", "_", name).strip("_") for name in named}
    if not named or len(set(places.values())) < len(places) or "" in places.values():
        raise ValueError(f"builders={list(named)}: expected at least one, with names that differ in letters or digits")
    cores = sorted(os.sched_getaffinity(0))
    check_counts(workers=(len(cores) if workers is None else workers, 1))
    folders = {name: None if checkpoint is None else str(Path(checkpoint, places[name])) for name in named}
    jobs = {name: _job(fn, splits, folders[name]) for name, fn in named.items()}
    if on is not None:
        return _elsewhere(jobs, on)
    payloads = {name: shipped(job, ()) for name, job in jobs.items()}
    logs = Path(logs or tempfile.mkdtemp(prefix="masslib-train-"))
    logs.mkdir(parents=True, exist_ok=True)
    files = {name: logs / f"{place}.log" for name, place in places.items()}
    return _side_by_side(payloads, files, cores, workers or len(cores), verbose)


def _job(fn: Callable[..., Any], splits: Any, checkpoint: str | None) -> Callable[[], Any]:
    """A function without arguments."""
    if not callable(fn):
        raise TypeError(f"a builder is a {type(fn).__name__}; expected a function (splits) or (splits, checkpoint)")
    takes = "checkpoint" in inspect.signature(fn).parameters
    return functools.partial(fn, splits, **({"checkpoint": checkpoint} if takes else {}))


def _side_by_side(
    payloads: dict[str, bytes], logs: dict[str, Path], cores: list[int], workers: int, verbose: bool
) -> Iterator[Trained]:
    waiting, running = list(payloads), {}
    free = [cores[number % len(cores)] for number in range(min(workers, len(payloads)))]
    with (
        tempfile.TemporaryDirectory(prefix="masslib-") as folder,
        bar(title="train", unit="model", visible=verbose, total=len(payloads)) as shown,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(lambda: [process.end(0) for process, *_ in running.values()])
        while waiting or running:
            while waiting and free:
                name, core = waiting.pop(0), free.pop(0)
                place = Path(folder, str(len(payloads) - len(waiting)))
                running[name] = (_started(name, payloads[name], place, logs[name], core), time.monotonic(), core)
            for name in list(running):
                process, start, core = running[name]
                if (ended := _ended(name, process, start)) is not None:
                    del running[name]
                    free.append(core)
                    shown.update()
                    shown.set_postfix_str(f"{name}{'' if ended.error is None else ' failed'}")
                    yield ended
            time.sleep(_POLL_SECONDS)


def _started(name: str, payload: bytes, place: Path, log: Path, core: int) -> Process:
    place.mkdir()
    (place / child.PAYLOAD).write_bytes(payload)
    environment = {**dict.fromkeys(_ONE_THREAD, "1"), CORES: str(core), "CUDA_VISIBLE_DEVICES": "-1"}
    return Process(Task(name, environment), place, log, echo=False)


def _ended(name: str, process: Process, start: float) -> Trained | None:
    """What has become of a process; None while it runs."""
    failure = process.failure() or (None if process.done else process.frozen())
    if failure is None and not process.done:
        return None
    seconds = time.monotonic() - start
    if failure is not None:
        process.end(0)
        return Trained(name, _error(failure), seconds, process.log)
    process.release()
    model = process.result()
    process.end(_PATIENCE)
    return Trained(name, None, seconds, process.log, model)


def _error(failure: Failure) -> WorkerError:
    text = f"{failure.text}\n\nIts log is {failure.log}"
    return WorkerError(text, worker=failure.worker, exitcode=failure.exitcode, log=Path(failure.log))


def _elsewhere(jobs: dict[str, Callable[[], Any]], on: Any) -> Iterator[Trained]:
    found = called([functools.partial(_caught, job) for job in jobs.values()], on)
    for name, (model, told, seconds) in zip(jobs, found, strict=True):
        error = None if told is None else WorkerError(f"{name} failed\n{told}", worker=name, exitcode=None, log=Path())
        yield Trained(name, error, seconds, None, model)


def _caught(job: Callable[[], Any]) -> tuple[Any, str | None, float]:
    """What a job returns, or its traceback, so that it fails alone."""
    start = time.monotonic()
    try:
        return job(), None, time.monotonic() - start
    except Exception:
        return None, traceback.format_exc(), time.monotonic() - start
