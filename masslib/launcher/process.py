"""One worker process, as the launching process sees it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import psutil

from masslib.launcher import child
from masslib.launcher.errors import in_words
from masslib.launcher.tasks import Task

_TAIL_LINES = 12
FROZEN_SECONDS = 6.0
"""After so long without a sign of life a process has failed."""


@dataclass(frozen=True)
class Failure:
    """Why a worker failed, and when.

    Attributes:
        worker: Its name, such as `"worker 1"`.
        reason: What happened, as in `"raised ValueError"`.
        detail: Its traceback, or the end of its log.
        time: When, in seconds since the epoch.
        follows: Whether it failed because of another one.
        exitcode: Exit code of its process; None while it runs.
        log: Path of its log file.
    """

    worker: str
    reason: str
    detail: str
    time: float
    follows: bool
    exitcode: int | None
    log: str

    @property
    def text(self) -> str:
        """The whole story."""
        return f"{self.worker} {self.reason}; {self.detail.rstrip()}"


class Process:
    """A worker process that was started.

    Args:
        task: What it is to be.
        folder: Its own folder, with the function that it runs.
        log: File to which its output is appended.
        echo: Whether what it prints is to be read by `echo`.
    """

    def __init__(self, task: Task, folder: Path, log: Path, *, echo: bool):
        self.task, self.log, self._folder = task, log, folder
        if echo:
            (folder / child.ECHO).touch()
        self._echo = open(folder / child.ECHO) if echo else None  # noqa: SIM115 - closed by `end`
        read, self._lifeline = os.pipe()
        environment = {**_clean_environment(), **task.environment, child.LIFELINE: str(read)}
        if task.serves:
            environment[child.SERVES] = "1"
        with open(log, "ab") as output:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "masslib.launcher", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=[read],
                start_new_session=True,  # the interrupt of a terminal is for the launching process
            )
        os.close(read)
        self._seen, self._cpu = time.monotonic(), 0.0
        self._beat = 0.0

    @property
    def pid(self) -> int:
        """Process number."""
        return self._popen.pid

    @property
    def done(self) -> bool:
        """Whether the function has returned."""
        return (self._folder / child.RESULT).exists()

    def result(self) -> Any:
        """Return what the function has returned."""
        return cloudpickle.loads((self._folder / child.RESULT).read_bytes())

    def echo(self) -> str:
        """Return what the function has printed since the last call."""
        return self._echo.read() if self._echo else ""

    def failure(self) -> Failure | None:
        """Tell whether the process has ended without a result."""
        code = self._popen.poll()
        if code is None or self.done:
            return None
        with contextlib.suppress(FileNotFoundError):
            error = json.loads((self._folder / child.ERROR).read_text())
            follows = error["type"] == "WorkerGoneError"
            return self.failed(f"raised {error['type']}", error["traceback"], when=error["time"], follows=follows)
        return self.failed(in_words(code))

    def frozen(self) -> Failure | None:
        """Tell whether the process has given no sign of life for too long."""
        silent = self.silent()
        return self.failed(f"has not answered for {silent:.0f} s") if silent > FROZEN_SECONDS else None

    def failed(self, reason: str, detail: str = "", *, when: float | None = None, follows: bool = False) -> Failure:
        """Say that it has failed, with the end of its log where there is nothing better."""
        detail = detail or f"the end of its log:\n{self.log_tail()}"
        return Failure(self.task.name, reason, detail, when or time.time(), follows, self.exitcode, str(self.log))

    @property
    def exitcode(self) -> int | None:
        """Exit code; None while it runs."""
        return self._popen.poll()

    def silent(self) -> float:
        """Return for how many seconds it has neither given a sign of life nor used any processor time."""
        beat, cpu = self._signs()
        if beat != self._beat or cpu != self._cpu:
            self._beat, self._cpu, self._seen = beat, cpu, time.monotonic()
        return time.monotonic() - self._seen

    def _signs(self) -> tuple[float, float]:
        beat, cpu = self._beat, self._cpu
        with contextlib.suppress(FileNotFoundError):
            beat = (self._folder / child.BEAT).stat().st_mtime
        with contextlib.suppress(psutil.NoSuchProcess):
            times = psutil.Process(self.pid).cpu_times()
            cpu = times.user + times.system
        return beat, cpu

    def terminate(self) -> None:
        """Ask it to end, as a cluster does before it takes a machine away."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)

    def release(self) -> None:
        """Let a process end that is done."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._lifeline, b".")

    def end(self, patience: float) -> None:
        """See that it ends, within some seconds or by force, and its children with it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(patience)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()
        os.close(self._lifeline)
        if self._echo:
            self._echo.close()

    def log_tail(self) -> str:
        """Return the last lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (empty)"


def _clean_environment() -> dict[str, str]:
    """The environment of this process without what makes it a member of some other cluster, or a notebook."""
    dropped = ("TF_CONFIG", "TF_USE_LEGACY_KERAS", "CUDA_VISIBLE_DEVICES", "MPLBACKEND")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in dropped and not name.startswith(("MASSLIB_", "SLURM_"))
    }
    return {**kept, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path), "PYTHONUNBUFFERED": "1"}
