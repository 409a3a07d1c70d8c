"""A group of worker processes on this machine: start them, watch them, start them again."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cloudpickle

from masslib._util.log import logger
from masslib.launcher import child
from masslib.launcher.errors import WorkerError
from masslib.launcher.process import FROZEN_SECONDS, Failure, Process
from masslib.launcher.tasks import Task

_POLL_SECONDS = 0.05
_WARN_SECONDS = 3.0
_SETTLE_SECONDS, _CAUSE_SECONDS = 1.0, 10.0
_TERMINATION_SECONDS, _RELEASE_SECONDS = 5.0, 5.0
_LONGEST_PAUSE = 30.0


def run(
    fn: Callable[..., Any],
    args: Sequence[Any],
    tasks: Callable[[], list[Task]],
    *,
    max_restarts: int,
    timeout: float | None,
    env: Mapping[str, str] | None = None,
    logs: str | os.PathLike[str] | None = None,
) -> list[Any]:
    """Run a function in processes, of which `tasks` makes the list at every start; see `launch`."""
    deadline, payload = deadline_after(timeout), shipped(fn, args)

    def attempt(number: int, logs: Path) -> list[Any] | Failure:
        variables = {"MASSLIB_ATTEMPT": str(number), **(env or {})}
        with (
            tempfile.TemporaryDirectory(prefix="masslib-") as folder,
            started(tasks(), folder, payload, variables, logs) as group,
        ):
            failure = _watch(group, deadline, timeout)
            return failure or [process.result() for process in group if not process.task.serves]

    return repeated(attempt, max_restarts=max_restarts, deadline=deadline, logs=logs)


def deadline_after(timeout: float | None) -> float:
    """When a time limit ends, as `time.monotonic` counts; `ValueError` if it is none."""
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout={timeout!r}: expected a positive number of seconds, or None")
    return float("inf") if timeout is None else time.monotonic() + timeout


def repeated(
    attempt: Callable[[int, Path], list[Any] | Failure],
    *,
    max_restarts: int,
    deadline: float,
    logs: str | os.PathLike[str] | None,
) -> list[Any]:
    """Attempt something until it gives results instead of a failure, or no restart is left.

    Args:
        attempt: Takes the number of restarts so far and the folder for log files.
        max_restarts: How often to start again.
        deadline: When no restart may begin any more, as `time.monotonic` counts.
        logs: Folder for the log files; by default a new one among the temporary files.

    Raises:
        WorkerError: If no restart is left, or the time is up.
    """
    logs = Path(logs or tempfile.mkdtemp(prefix="masslib-launch-"))
    logs.mkdir(parents=True, exist_ok=True)
    failures: list[Failure] = []
    while isinstance(outcome := attempt(len(failures), logs), Failure):
        failures.append(outcome)
        if len(failures) > max_restarts or time.monotonic() > deadline:
            raise _error(failures, logs)
        pause = min(2.0 ** (len(failures) - 1), _LONGEST_PAUSE)
        logger.warning(
            "%s %s; all start again in %g s (restart %d of %d)",
            outcome.worker,
            outcome.reason,
            pause,
            len(failures),
            max_restarts,
        )
        time.sleep(pause)
    return outcome


def _watch(group: list[Process], deadline: float, timeout: float | None) -> Failure | None:
    """Wait until all functions have returned, or one process has failed."""
    warned: set[Process] = set()
    with forwarding(
        lambda: [process.terminate() for process in group],
        lambda: all(process.exitcode is not None for process in group),
    ):
        while True:
            _print_echo(group)
            if any(process.failure() for process in group):
                return _first_failure(group)
            if all(process.done for process in group if not process.task.serves):
                _print_echo(group)
                return None
            for process in group:
                if failure := process.frozen():
                    return failure
                silent = process.silent()
                if silent > _WARN_SECONDS and process not in warned:
                    warned.add(process)
                    warnings.warn(
                        f"{process.task.name} has not answered for {silent:.0f} s; the limit is {FROZEN_SECONDS:g} s",
                        RuntimeWarning,
                        stacklevel=4,
                    )
            if time.monotonic() > deadline:
                late = next(process for process in group if not process.done)
                return late.failed(f"has not ended within the timeout of {timeout:g} s")
            time.sleep(_POLL_SECONDS)


def _first_failure(group: list[Process]) -> Failure:
    start = time.monotonic()
    while True:
        found = [failure for process in group if (failure := process.failure())]
        ended = all(process.exitcode is not None for process in group)
        if first := first_of(found, time.monotonic() - start, ended):
            _print_echo(group)
            return first
        time.sleep(_POLL_SECONDS)


def first_of(failures: Collection[Failure], waited: float, ended: bool) -> Failure | None:
    """Tell which failure began it; the others fail because of that one, and may be seen before.

    Args:
        failures: What has been seen.
        waited: Seconds since the first of them was seen.
        ended: Whether no other can come.

    Returns:
        None as long as it is better to wait: a moment, and longer if all are due to one that has not been seen.
    """
    follow = all(failure.follows for failure in failures)
    if not ended and waited < (_CAUSE_SECONDS if follow else _SETTLE_SECONDS):
        return None
    return min(failures, key=lambda failure: (failure.follows, failure.time))


def _print_echo(group: list[Process]) -> None:
    for process in group:
        if text := process.echo():
            print(text, end="", flush=True)


@contextlib.contextmanager
def started(
    tasks: list[Task], folder: str, payload: bytes, env: Mapping[str, str], logs: Path
) -> Iterator[list[Process]]:
    """Start the processes; whatever happens, they have ended afterwards."""
    group: list[Process] = []
    done = False
    try:
        for number, task in enumerate(tasks):
            own = Path(folder, str(number))
            own.mkdir()
            (own / child.PAYLOAD).write_bytes(payload)
            task = Task(task.name, {**task.environment, **env}, task.serves)
            group.append(Process(task, own, logs / f"{task.name.replace(' ', '-')}.log", echo=number == 0))
        yield group
        done = all(process.done or process.task.serves for process in group)
    finally:
        for process in group:
            if done and not process.task.serves:
                process.release()
        for process in group:
            process.end(patience=_RELEASE_SECONDS if done and not process.task.serves else 0)


@contextlib.contextmanager
def forwarding(terminate: Callable[[], None], ended: Callable[[], bool]) -> Iterator[None]:
    """Hand SIGTERM on to the workers, wait for them to save and end, call the handler of before, and end as well."""
    before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL
    if threading.current_thread() is not threading.main_thread() or before == signal.SIG_IGN:
        yield
        return

    def forward(number: int, frame: Any) -> None:
        terminate()
        end = time.monotonic() + _TERMINATION_SECONDS
        while not ended() and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
        if callable(before):
            before(number, frame)
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, forward)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _error(failures: list[Failure], logs: Path) -> WorkerError:
    last = failures[-1]
    text = last.text
    if len(failures) > 1:
        attempts = "\n".join(f"  {n}: {f.worker} {f.reason}" for n, f in enumerate(failures, 1))
        text += f"\n\nIt was tried {len(failures)} times:\n{attempts}"
    text += f"\n\nThe logs of all workers are in {logs}"
    return WorkerError(text, worker=last.worker, exitcode=last.exitcode, log=Path(last.log))


def shipped(fn: Callable[..., Any], args: Sequence[Any]) -> bytes:
    """Pickle a function and its arguments by value, for other processes."""
    if not callable(fn):
        raise TypeError(f"fn is a {type(fn).__name__}; expected a function, which every worker will call")
    try:
        return cloudpickle.dumps((fn, tuple(args)))
    except Exception as error:  # whatever the __reduce__ of some object raises
        raise TypeError(
            f"{getattr(fn, '__name__', fn)!r} cannot be shipped to another process: {error}; build datasets, models "
            "and strategies inside of it"
        ) from error
