"""The processes of a cluster meet before TensorFlow starts: it would wait for a missing one without end or word."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Mapping
from typing import Any

from masslib.distribute.cluster import Cluster, check_ports, listening, split

_RETRY_SECONDS = 0.2
_MESSAGE_BYTES = 1 << 16

_Problem = dict[str, str]
"""`kind` (missing or different) and `text`; empty when all is well."""


def meet(cluster: Cluster, about: Mapping[str, str], timeout: float) -> None:
    """Return once all processes that train are there and were started alike.

    Rank 0 waits at its own port, where TensorFlow's server will listen afterwards; the others report there.

    Args:
        cluster: The cluster.
        about: What has to be the same everywhere, such as the versions of packages.
        timeout: How long to wait for the last one, in s.

    Raises:
        ValueError: If an address is wrong, or a process was started with another `about`.
        RuntimeError: If one has not come in time; the message names it. All those that came raise the same.
    """
    check_ports(cluster)
    if len(cluster.training) == 1:
        return
    deadline = time.monotonic() + timeout
    problem = _receive(cluster, about, deadline, timeout) if cluster.rank == 0 else _report(cluster, about, deadline)
    if problem:
        raise (ValueError if problem["kind"] == "different" else RuntimeError)(problem["text"])


def await_servers(cluster: Cluster, timeout: float) -> None:
    """Return once every other process of a parameter-server cluster listens at its port.

    Raises:
        ValueError: If an address is wrong.
        RuntimeError: If one does not listen in time; the message names it.
    """
    check_ports(cluster)
    deadline = time.monotonic() + timeout
    for kind in ("ps", "worker"):
        for index, address in enumerate(cluster.tasks.get(kind, ())):
            while not _listens(address):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{kind} {index} at {address} has not come within {timeout:g} s")
                time.sleep(_RETRY_SECONDS)


def _listens(address: str) -> bool:
    try:
        socket.create_connection(split(address), timeout=1).close()
    except OSError:
        return False
    return True


def _receive(cluster: Cluster, about: Mapping[str, str], deadline: float, timeout: float) -> _Problem:
    """Wait for all other ranks, compare them with this one, and tell all of them the result."""
    present: dict[int, socket.socket] = {}
    problem: _Problem = {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(listening(split(cluster.address)[1]))
        while len(present) < len(cluster.training) - 1 and not problem:
            server.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                connection = stack.enter_context(server.accept()[0])
                connection.settimeout(1)
                rank, theirs = _read(connection, len(cluster.training))
            except TimeoutError:
                if time.monotonic() < deadline:
                    continue
                problem = _missing(cluster, present, timeout)
            except (OSError, ValueError):
                continue  # not one of ours: a port scan, or a worker that was killed while it reported
            else:
                problem = _compared(rank, about, theirs, present)
                present[rank] = connection
        for connection in present.values():
            with contextlib.suppress(OSError):  # it has gone meanwhile; TensorFlow will tell
                connection.sendall(json.dumps({"problem": problem}).encode() + b"\n")
    return problem


def _missing(cluster: Cluster, present: Mapping[int, Any], timeout: float) -> _Problem:
    names = [
        f"worker {rank} at {address}"
        for rank, address in enumerate(cluster.training)
        if rank > 0 and rank not in present
    ]
    text = f"{', '.join(names)} has not come within {timeout:g} s; start it, or look into its log for why it ended"
    return {"kind": "missing", "text": text}


def _read(connection: socket.socket, count: int) -> tuple[int, dict[str, str]]:
    """Read what a worker reports; `ValueError` if it is not one."""
    match json.loads(_line(connection)):
        case {"rank": int(rank), "about": dict(about)} if 0 < rank < count:
            return rank, about
    raise ValueError("not the report of a worker")


def _compared(rank: int, about: Mapping[str, str], theirs: Mapping[str, str], present: Mapping[int, Any]) -> _Problem:
    if rank in present:
        return {"kind": "different", "text": f"two processes say that they are worker {rank}; give each its own index"}
    different = [
        f"{name} {theirs.get(name)} there, {about.get(name)} here"
        for name in sorted(about.keys() | theirs.keys())
        if about.get(name) != theirs.get(name)
    ]
    if not different:
        return {}
    return {"kind": "different", "text": f"worker {rank} was started differently from worker 0: {'; '.join(different)}"}


def _report(cluster: Cluster, about: Mapping[str, str], deadline: float) -> _Problem:
    """Report to rank 0 and return what it found; try again until it is there."""
    chief = split(cluster.training[0])
    message = json.dumps({"rank": cluster.rank, "about": dict(about)}).encode() + b"\n"
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection(chief, timeout=left) as connection:
                connection.sendall(message)
                connection.settimeout(left + 5)
                return json.loads(_line(connection))["problem"]
        except (OSError, ValueError):
            # Nobody is there yet, or the server of a training that is about to end.
            time.sleep(_RETRY_SECONDS)
    text = f"worker 0 at {cluster.training[0]} has not answered; start it, or look into its log for why it ended"
    return {"kind": "missing", "text": text}


def _line(connection: socket.socket) -> bytes:
    """Read a line; `ValueError` if the other side ends before."""
    with connection.makefile("rb") as stream:
        line = stream.readline(_MESSAGE_BYTES)
    if not line.endswith(b"\n"):
        raise ValueError("no whole line")
    return line
