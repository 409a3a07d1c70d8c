"""What is said of a worker that failed."""

from __future__ import annotations

import functools
import signal
from pathlib import Path
from typing import Any


class WorkerError(RuntimeError):
    """A worker process failed, and no restart was left.

    The message begins with the traceback of the worker that failed first; the others fail because of it.

    Attributes:
        worker: Name of that worker, such as `"worker 1"`.
        exitcode: Its exit code; minus the number of the signal that killed it; None if it still ran.
        log: Path of its log file.
    """

    def __init__(self, message: str, *, worker: str, exitcode: int | None, log: Path):
        super().__init__(message)
        self.worker, self.exitcode, self.log = worker, exitcode, log

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is copied and pickled by its positional arguments alone.
        make = functools.partial(type(self), worker=self.worker, exitcode=self.exitcode, log=self.log)
        return make, self.args, vars(self)


def in_words(exitcode: int) -> str:
    """Say what an exit code means.

    Example:
        >>> in_words(-9), in_words(143), in_words(3)
        ('was killed by SIGKILL', 'was terminated by SIGTERM', 'ended with exit code 3')
    """
    if exitcode == 128 + signal.SIGTERM or exitcode == -signal.SIGTERM:
        return "was terminated by SIGTERM"
    if exitcode < 0:
        return f"was killed by {signal.Signals(-exitcode).name}"
    return f"ended with exit code {exitcode}"
