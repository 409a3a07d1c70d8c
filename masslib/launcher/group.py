"""`launch`: run a function in several worker processes and see it through."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cloudpickle

from masslib._util.checks import check_counts
from masslib._util.log import logger
from masslib.launcher import child
from masslib.launcher.errors import WorkerError
from masslib.launcher.process import Failure, Process
from masslib.launcher.tasks import Task, local_tasks

_POLL_SECONDS = 0.05
_WARN_SECONDS, _FROZEN_SECONDS = 3.0, 6.0
# Others that fail because of the first one may be seen a moment before it, and have something to say of it.
_SETTLE_SECONDS = 1.0
_TERMINATION_SECONDS, _RELEASE_SECONDS = 5.0, 5.0
_LONGEST_PAUSE = 30.0


def launch(
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    *,
    workers: int = 2,
    servers: int = 0,
    max_restarts: int = 0,
    timeout: float | None = None,
    threads: int | None = None,
    gpus: int = 0,
    env: Mapping[str, str] | None = None,
    logs: str | os.PathLike[str] | None = None,
) -> list[Any]:
    """Run a function in several worker processes of this machine, and return what it returns in each.

    It works from a notebook cell and from a script. The function is shipped by cloudpickle, so it may be defined in the
    cell; it builds everything itself, `masslib.strategy("multi_worker")` first. What rank 0 prints appears here as it
    comes; all that a worker writes is kept in its log file. One thing does not travel: AutoGraph does not find the
    source of a shipped function, so a `tf.function` with Python loops over tensors belongs in a module of its own.

    When a worker dies, raises, or stops answering, all are ended; while restarts are left, all are started again, and
    a `masslib.fit` with `checkpoint=` goes on from the last checkpoint. No process outlives the launching one.

    Args:
        fn: The function.
        args: Its arguments.
        workers: Processes that train.
        servers: Parameter servers; with one or more, only a chief runs `fn`, under
            `masslib.strategy("parameter_server")`, and gives work to the workers.
        max_restarts: How often to start all again; after 1 s, 2 s, 4 s and so on. The workers find the number of
            restarts so far in `MASSLIB_ATTEMPT`.
        timeout: Time limit in seconds, restarts included; by default there is none. In any case the start is limited
            (to 60 s, see `masslib.strategy`), and a worker that does not respond for 6 s has failed.
        threads: Threads of TensorFlow in each worker; by default the cores are shared out. If the cores suffice, each
            worker is bound to its own.
        gpus: GPUs for each worker, which sees no others.
        env: Variables for the environment of the workers. It is a copy of this one's, without what would make them
            part of some other cluster.
        logs: Folder for the log files, `worker-0.log` and so on; by default a new one among the temporary files.

    Returns:
        One result per rank; with `servers`, that of the chief alone.

    Raises:
        TypeError: If `fn` or its arguments cannot be shipped.
        ValueError: If a number is out of range.
        WorkerError: If a worker failed and no restart is left, or the time is up. It begins with the traceback of the
            one that failed first.

    Example:
        >>> import masslib
        >>> def train(rate):
        ...     import os
        ...     return rate * len(os.environ["TF_CONFIG"]) > 0
        >>> masslib.launch(train, [0.1], workers=2)
        [True, True]
    """
    check_counts(workers=(workers, 1), servers=(servers, 0), max_restarts=(max_restarts, 0), gpus=(gpus, 0))
    if threads is not None:
        check_counts(threads=(threads, 1))
    tasks = local_tasks(workers, servers, threads, gpus)
    return run(fn, args, tasks, max_restarts=max_restarts, timeout=timeout, env=env, logs=logs)


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
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout={timeout!r}: expected a positive number of seconds, or None")
    payload = _shipped(fn, args)
    logs = Path(logs or tempfile.mkdtemp(prefix="masslib-launch-"))
    logs.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout if timeout else float("inf")
    failures: list[Failure] = []
    while True:
        variables = {"MASSLIB_ATTEMPT": str(len(failures)), **(env or {})}
        with (
            tempfile.TemporaryDirectory(prefix="masslib-") as folder,
            _started(tasks(), folder, payload, variables, logs) as group,
        ):
            failure = _watch(group, deadline, timeout)
            if failure is None:
                return [process.result() for process in group if not process.task.serves]
        failures.append(failure)
        if len(failures) > max_restarts or time.monotonic() > deadline:
            raise _error(failures, logs)
        pause = min(2.0 ** (len(failures) - 1), _LONGEST_PAUSE)
        logger.warning(
            "%s %s; all start again in %g s (restart %d of %d)",
            failure.process.task.name,
            failure.reason,
            pause,
            len(failures),
            max_restarts,
        )
        time.sleep(pause)


def _watch(group: list[Process], deadline: float, timeout: float | None) -> Failure | None:
    """Wait until all functions have returned, or one process has failed."""
    warned: set[Process] = set()
    with _forwarding(group):
        while True:
            _print_echo(group)
            if any(process.failure() for process in group):
                return _first_failure(group)
            if all(process.done for process in group if not process.task.serves):
                _print_echo(group)
                return None
            for process in group:
                silent = process.silent()
                if silent > _FROZEN_SECONDS:
                    reason = f"has not answered for {silent:.0f} s"
                    return Failure(process, reason, "", time.time(), False)
                if silent > _WARN_SECONDS and process not in warned:
                    warned.add(process)
                    warnings.warn(
                        f"{process.task.name} has not answered for {silent:.0f} s; the limit is {_FROZEN_SECONDS:g} s",
                        RuntimeWarning,
                        stacklevel=4,
                    )
            if time.monotonic() > deadline:
                late = next(process for process in group if not process.done)
                return Failure(late, f"has not ended within the timeout of {timeout:g} s", "", time.time(), False)
            time.sleep(_POLL_SECONDS)


def _first_failure(group: list[Process]) -> Failure:
    end = time.monotonic() + _SETTLE_SECONDS
    while any(process.exitcode is None for process in group) and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
    _print_echo(group)
    found = [failure for process in group if (failure := process.failure())]
    return min(found, key=lambda failure: (failure.follows, failure.time))


def _print_echo(group: list[Process]) -> None:
    for process in group:
        if text := process.echo():
            print(text, end="", flush=True)


@contextlib.contextmanager
def _started(
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
def _forwarding(group: list[Process]) -> Iterator[None]:
    """Hand SIGTERM on to the workers, wait for them to save and end, call the handler of before, and end as well."""
    before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL
    if threading.current_thread() is not threading.main_thread() or before == signal.SIG_IGN:
        yield
        return

    def forward(number: int, frame: Any) -> None:
        for process in group:
            process.terminate()
        end = time.monotonic() + _TERMINATION_SECONDS
        while any(process.exitcode is None for process in group) and time.monotonic() < end:
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
        attempts = "\n".join(f"  {n}: {f.process.task.name} {f.reason}" for n, f in enumerate(failures, 1))
        text += f"\n\nIt was tried {len(failures)} times:\n{attempts}"
    text += f"\n\nThe logs of all workers are in {logs}"
    return WorkerError(text, worker=last.process.task.name, exitcode=last.process.exitcode, log=last.process.log)


def _shipped(fn: Callable[..., Any], args: Sequence[Any]) -> bytes:
    if not callable(fn):
        raise TypeError(f"fn is a {type(fn).__name__}; expected a function, which every worker will call")
    try:
        return cloudpickle.dumps((fn, tuple(args)))
    except Exception as error:  # whatever the __reduce__ of some object raises
        raise TypeError(
            f"{getattr(fn, '__name__', fn)!r} cannot be shipped to another process: {error}; build datasets, models "
            "and strategies inside of it"
        ) from error
