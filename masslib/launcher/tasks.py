"""The plan of a group: which processes there are, and what each finds in its environment."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from masslib.distribute.cluster import SECRET

CORES = "MASSLIB_CORES"
"""Variable that holds the cores a process is to be bound to."""


@dataclass(frozen=True)
class Task:
    """What one process is to be.

    Attributes:
        name: Such as `"worker 1"`.
        environment: What it finds in its environment besides what all of them find.
        serves: Whether it serves a parameter-server cluster, instead of running the function.
    """

    name: str
    environment: Mapping[str, str]
    serves: bool = False


def local_tasks(workers: int, servers: int, threads: int | None, gpus: int) -> Callable[[], list[Task]]:
    """Return a function that plans the processes of this machine, on ports that are free when it is called."""
    cores = sorted(os.sched_getaffinity(0))
    each = threads or max(1, len(cores) // workers)
    kinds = ["worker"] * workers if not servers else ["chief"] + ["worker"] * workers + ["ps"] * servers

    def environment(number: int) -> dict[str, str]:
        own = {"MASSLIB_THREADS": str(each)}
        if workers * each <= len(cores) and not servers:
            own[CORES] = ",".join(map(str, cores[number * each : (number + 1) * each]))
        own["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(number * gpus, (number + 1) * gpus))) or "-1"
        return own

    def tasks() -> list[Task]:
        addresses = [f"127.0.0.1:{port}" for port in free_ports(len(kinds))]
        cluster: dict[str, list[str]] = {}
        made, secret = [], secrets.token_hex(32)
        for number, (kind, address) in enumerate(zip(kinds, addresses, strict=True)):
            members = cluster.setdefault(kind, [])
            made.append((f"{kind} {len(members)}", kind, len(members), number))
            members.append(address)
        return [
            Task(
                name,
                {**environment(number), "TF_CONFIG": tf_config(cluster, kind, index), SECRET: secret},
                serves=servers > 0 and kind != "chief",
            )
            for name, kind, index, number in made
        ]

    return tasks


def tf_config(cluster: Mapping[str, list[str]], kind: str, index: int) -> str:
    """Write the TF_CONFIG of one process."""
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Find ports that are free at an address of this machine."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((host, 0))) for _ in range(count)]
        return [opened.getsockname()[1] for opened in sockets]
