"""What the task of an engine does: start one worker as a child process, as locally, and report on it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from masslib.distribute.cluster import SECRET
from masslib.launcher import child
from masslib.launcher.group import started
from masslib.launcher.hub import Invitation, Link
from masslib.launcher.process import Process
from masslib.launcher.tasks import CORES, Task, free_ports, tf_config

_POLL_SECONDS = 0.2  # often enough, and a look costs the workers a thousandth of their time
_CHUNK = 1 << 16


def run(
    rank: int,
    gpus: str,
    *,
    invitation: Invitation,
    payload: bytes,
    threads: int,
    env: Mapping[str, str],
    path: tuple[str, ...],
) -> bytes | None:
    """Run one worker to its end.

    Args:
        rank: Which one.
        gpus: The GPUs that it may see, as in CUDA_VISIBLE_DEVICES.
        invitation: Where to report.
        payload: The function and its arguments.
        threads: Threads of TensorFlow.
        env: Variables for its environment.
        path: Where the launching process looks for modules; here as well, behind the task's own places.

    Returns:
        What the function has returned, pickled; None if the worker failed or was told to end, which the hub knows.
    """
    try:
        link = Link.to(invitation, rank)
    except OSError:  # the launching process has given up meanwhile
        return None
    sys.path.extend(place for place in path if place not in sys.path and os.path.isdir(place))
    with contextlib.closing(link), tempfile.TemporaryDirectory(prefix="masslib-") as folder:
        commands: queue.Queue[Mapping[str, Any] | None] = queue.Queue()
        threading.Thread(target=_listen, args=(link, commands), daemon=True).start()
        (port,) = free_ports(1, link.host)
        link.send({"address": f"{link.host}:{port}"})
        if (plan := commands.get()) is None:
            return None
        own = {"TF_CONFIG": tf_config({"worker": plan["cluster"]}, "worker", rank), SECRET: plan["secret"]}
        own |= {"MASSLIB_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": gpus or "-1"}
        own |= _cores(plan["cluster"], rank, threads)
        with (
            contextlib.suppress(ConnectionError, BrokenPipeError),  # nobody is left to report to
            started([Task(f"worker {rank}", own)], folder, payload, env, Path(folder)) as (process,),
        ):
            return _seen_through(process, link, commands, Path(folder) / "0" / child.RESULT)
    return None


def _cores(cluster: list[str], rank: int, threads: int) -> dict[str, str]:
    """Bind a worker to cores of its own, if the workers of this host take all that there are.

    Workers that wait for each other in every step lose time when the system moves them about. Where there are more
    cores, others may use them, and no engine says which are free.
    """
    hosts = [address.rpartition(":")[0] for address in cluster]
    here = [other for other, host in enumerate(hosts) if host == hosts[rank]]
    cores = sorted(os.sched_getaffinity(0))
    if len(here) * threads != len(cores):
        return {}
    first = here.index(rank) * threads
    return {CORES: ",".join(map(str, cores[first : first + threads]))}


def _seen_through(
    process: Process, link: Link, commands: queue.Queue[Mapping[str, Any] | None], result: Path
) -> bytes | None:
    """Report on a process until it has failed, or all workers are done; return its result."""
    with open(process.log, errors="replace") as log:
        while True:
            echo = process.echo()
            for start in range(0, len(echo), _CHUNK):
                link.send({"echo": echo[start : start + _CHUNK]})
            while text := log.read(_CHUNK):
                link.send({"log": text})
            if failure := process.failure() or (None if process.done else process.frozen()):
                link.send({"failure": dataclasses.asdict(failure)})
                return None
            if process.done:
                break
            with contextlib.suppress(queue.Empty):
                if (command := commands.get(timeout=_POLL_SECONDS)) is None:
                    return None
                if "terminate" in command:
                    process.terminate()
    link.send({"done": True})
    while (command := commands.get()) is not None:
        if "release" in command:
            return result.read_bytes()
    return None


def _listen(link: Link, commands: queue.Queue[Mapping[str, Any] | None]) -> None:
    with contextlib.suppress(OSError, ValueError):
        while True:
            commands.put(link.receive())
    commands.put(None)
