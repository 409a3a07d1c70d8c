"""Workers on an engine, as the launching process sees them."""

from __future__ import annotations

import contextlib
import enum
import functools
import os
import queue
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cloudpickle

from masslib._util.log import logger
from masslib.launcher import member
from masslib.launcher.engines import Engine, Job
from masslib.launcher.group import deadline_after, first_of, forwarding, repeated, shipped
from masslib.launcher.hub import Hub
from masslib.launcher.process import Failure

_POLL_SECONDS, _TOLD_SECONDS = 0.2, 1.0
_WARN_SECONDS, _START_SECONDS = 20.0, 600.0
_LOOK_SECONDS, _SAVE_SECONDS, _GROW_SECONDS = 30.0, 120.0, 5.0


class Grows(enum.Enum):
    """That the workers have ended because there is room for more of them."""

    GROWS = enum.auto()


GROWS = Grows.GROWS


def run_on(
    engine: Engine,
    fn: Callable[..., Any],
    args: Sequence[Any],
    *,
    workers: int | tuple[int, int],
    threads: int | None,
    gpus: int,
    max_restarts: int,
    timeout: float | None,
    env: Mapping[str, str] | None,
    logs: str | os.PathLike[str] | None,
    elastic_timeout: float = 60.0,
) -> list[Any]:
    """Run a function in workers that an engine starts; see `launch`."""
    deadline, payload = deadline_after(timeout), shipped(fn, args)
    least, most = (workers, workers) if isinstance(workers, int) else workers
    threads = engine.threads(least, most, threads)

    def attempt(number: int, logs: Path) -> list[Any] | Failure:
        if least == most:
            return group(number, logs, most)
        patience = min(elastic_timeout, max(0.0, deadline - time.monotonic()))
        while True:
            count = max(least, engine.room(most, threads, gpus, patience))
            logger.info("%s starts %d of at most %d workers", engine.name, count, most)
            with engine.looking(count, threads, gpus) if count < most else contextlib.nullcontext() as more:
                outcome = group(number, logs, count, more)
            if outcome is not GROWS:
                return outcome
            patience = min(_GROW_SECONDS, patience)

    def group(
        number: int, logs: Path, workers: int, more: Callable[[], bool] | None = None
    ) -> list[Any] | Failure | Grows:
        with contextlib.ExitStack() as stack:
            hub = Hub(engine.host, workers)
            task = functools.partial(
                member.run,
                invitation=hub.invitation,
                payload=payload,
                threads=threads,
                env={"MASSLIB_ATTEMPT": str(number), **(env or {})},
                path=tuple(os.path.abspath(place) for place in sys.path),
            )
            job = engine.start(task, workers, threads, gpus)
            stack.callback(job.stop)
            stack.callback(hub.close)  # first: it ends the workers
            watch = _Watch(engine, job, hub, workers, logs, more)
            with forwarding(lambda: hub.tell({"terminate": True}), lambda: len(watch.ended) == workers):
                outcome = watch.until(deadline, timeout)
            return outcome or _results(engine, job, workers)

    return repeated(attempt, max_restarts=max_restarts, deadline=deadline, logs=logs)


def _results(engine: Engine, job: Job, workers: int) -> list[Any] | Failure:
    problem: Any = None
    try:
        results = job.results()
    except Exception as error:  # whatever the engine raises
        results, problem = [], error
    if len(results) == workers and None not in results:
        return [cloudpickle.loads(result) for result in results]
    text = str(problem or job.problem() or "")
    return Failure(engine.name, "has lost the results", text, time.time(), False, None, "")


class _Watch:
    """What is known of the workers of one attempt.

    Attributes:
        ended: Ranks of those that are done, have failed or are gone.
    """

    def __init__(
        self, engine: Engine, job: Job, hub: Hub, workers: int, logs: Path, more: Callable[[], bool] | None = None
    ):
        self._engine, self._job, self._hub, self._workers, self._logs = engine, job, hub, workers, logs
        self._more, self._warned = more, False
        self._addresses: dict[int, str] = {}
        self._done: set[int] = set()
        self._failures: dict[int, Failure] = {}

    @property
    def ended(self) -> set[int]:
        return self._done | self._failures.keys()

    def until(self, deadline: float, timeout: float | None) -> Failure | Grows | None:
        """Wait until all functions have returned, one worker has failed, or more workers have room."""
        start, failed, looked = time.monotonic(), float("inf"), 0.0
        while len(self._done) < self._workers:
            with contextlib.suppress(queue.Empty):
                self._take(*self._hub.events.get(timeout=_POLL_SECONDS))
                if not self._failures:
                    continue  # what has come is read before anything is judged
            now = time.monotonic()
            problem = self._job.problem()
            if self._failures or problem:
                failed = min(failed, now)
                if failure := self._first(problem, now - failed):
                    return failure
            elif now > deadline:
                late = min(set(range(self._workers)) - self._done)
                return self._failed(late, f"has not ended within the timeout of {timeout:g} s")
            elif len(self._addresses) < self._workers:
                looked = now
                if failure := self._late(now - start):
                    return failure
            elif self._more and now > looked + _LOOK_SECONDS and not self._done:
                looked = now
                if self._more() and not self._completed():
                    return GROWS
        self._hub.tell({"release": True})
        return None

    def _first(self, problem: str | None, waited: float) -> Failure | None:
        """The failure that began it, once it can be told."""
        if self._failures:
            return first_of(self._failures.values(), waited, len(self.ended) == self._workers)
        # Which worker the engine means is told by its connection, maybe a moment later.
        return self._failed(None, "could not run the workers", problem) if waited > _TOLD_SECONDS else None

    def _late(self, waited: float) -> Failure | None:
        """Say that not all workers have started yet."""
        came = f"has started {len(self._addresses)} of {self._workers} workers within {waited:.0f} s"
        if waited > _START_SECONDS:
            return self._failed(None, came, "has the cluster room for all of them at once?")
        if waited > _WARN_SECONDS and not self._warned:
            self._warned = True
            logger.warning("%s %s; has the cluster room for all of them at once?", self._engine.name, came)
        return None

    def _completed(self) -> bool:
        """Let the workers save and end, for there is room for more; whether all have come to their end instead."""
        logger.warning("%s has room for more than %d workers; all start again", self._engine.name, self._workers)
        self._hub.tell({"terminate": True})
        end = time.monotonic() + _SAVE_SECONDS
        while len(self.ended) < self._workers and time.monotonic() < end:
            with contextlib.suppress(queue.Empty):
                self._take(*self._hub.events.get(timeout=_POLL_SECONDS))
        return len(self._done) == self._workers

    def _take(self, rank: int, message: Mapping[str, Any] | None) -> None:
        match message:
            case None if rank not in self.ended:
                self._failures[rank] = self._failed(rank, "has gone: its task or its host was lost")
            case {"address": str(address)}:
                self._addresses[rank] = address
                if len(self._addresses) == self._workers:
                    cluster = [self._addresses[rank] for rank in range(self._workers)]
                    self._hub.tell({"cluster": cluster, "secret": secrets.token_hex(32)})
            case {"echo": str(text)} if rank == 0:
                print(text, end="", flush=True)
            case {"log": str(text)}:
                with open(self._log(rank), "a", encoding="utf-8") as log:
                    log.write(text)
            case {"failure": dict(failure)}:
                self._failures[rank] = Failure(**{**failure, "log": str(self._log(rank))})
            case {"done": True}:
                self._done.add(rank)

    def _failed(self, rank: int | None, reason: str, detail: str | None = "") -> Failure:
        name = self._engine.name if rank is None else f"worker {rank}"
        log = "" if rank is None else str(self._log(rank))
        return Failure(name, reason, detail or f"its log: {log}", time.time(), False, None, log)

    def _log(self, rank: int) -> Path:
        return self._logs / f"worker-{rank}.log"
