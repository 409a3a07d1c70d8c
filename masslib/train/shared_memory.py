"""Gradients of workers on one machine meet in memory that they share, instead of travelling through its network.

TensorFlow's collectives send them through gRPC even then, at about 0.5 GB/s and on the cores that ought to train.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import platform
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from masslib.train.replicas import Replicas

_FROZEN_SECONDS = 6.0
_CONNECT_SECONDS = 60.0


class Meeting:
    """A place in memory where the workers of one machine add up their arrays, the same bits for all.

    Args:
        slots: Memory of as many bytes for every rank, and once more for the sum.
        rank: Number of this worker.
        others: By rank, a connection to each of the other workers and its process number.
    """

    def __init__(self, slots: np.ndarray, rank: int, others: dict[int, tuple[socket.socket, int]]):
        self._slots, self._rank, self._others = slots, rank, others

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of the arrays that all workers pass; they are of one shape and type. Collective.

        Raises:
            ConnectionError: If another worker has gone, or has stopped for too long.
        """
        workers = len(self._slots) - 1
        *parts, total = (slot[: values.nbytes].view(values.dtype) for slot in self._slots)
        parts[self._rank][:] = values
        self._meet()
        # Each rank adds up its share of all arrays, in the order of the ranks.
        share = slice(len(values) * self._rank // workers, len(values) * (self._rank + 1) // workers)
        np.add(parts[0][share], parts[1][share], out=total[share])
        for part in parts[2:]:
            total[share] += part[share]
        self._meet()
        return total

    def _meet(self) -> None:
        """Return once all have come here."""
        for rank, (connection, _) in self._others.items():
            try:
                connection.send(b".")
            except OSError as error:
                raise ConnectionError(f"worker {rank} has gone") from error
        for rank, (connection, pid) in self._others.items():
            _await(connection, rank, pid)


def _await(connection: socket.socket, rank: int, pid: int) -> None:
    stopped_since = None
    while True:
        try:
            if not connection.recv(1):
                raise ConnectionError(f"worker {rank} has gone")
            return
        except TimeoutError:
            if not _is_stopped(pid):
                stopped_since = None
                continue
            stopped_since = stopped_since or time.monotonic()
            if time.monotonic() - stopped_since > _FROZEN_SECONDS:
                raise ConnectionError(f"worker {rank} has not answered for {_FROZEN_SECONDS:g} s") from None
        except OSError as error:
            raise ConnectionError(f"worker {rank} has gone") from error


def _is_stopped(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    return False


@contextlib.contextmanager
def meeting(replicas: Replicas, nbytes: int, *, wanted: bool) -> Iterator[Meeting | None]:
    """Let workers of one machine share memory for arrays of so many bytes; None if they cannot or will not. Collective.

    They can if all of them run on this machine, each with one replica on a CPU.
    """
    if not wanted or replicas.workers == 1 or replicas.local > 1 or not _on_one_machine(replicas):
        yield None
        return
    with contextlib.ExitStack() as stack:
        slots = _shared(replicas, nbytes)
        others = _connected(replicas, stack)
        yield Meeting(slots, replicas.rank, others)


def _on_one_machine(replicas: Replicas) -> bool:
    import tensorflow as tf

    boot = Path("/proc/sys/kernel/random/boot_id")
    here = None
    if boot.is_file() and not tf.config.list_physical_devices("GPU"):
        namespaces = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "net", "mnt")]
        here = [platform.node(), boot.read_text(), *namespaces, tempfile.gettempdir()]
    places = replicas.gather(json.dumps(here).encode())
    return here is not None and len(set(places)) == 1


def _shared(replicas: Replicas, nbytes: int) -> np.ndarray:
    """Map one file into the memory of all workers; it has no name any more afterwards, so nothing can be left."""
    aligned = -(-nbytes // 64) * 64
    size = (replicas.workers + 1) * aligned
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.NamedTemporaryFile(dir=folder) if replicas.is_chief else contextlib.nullcontext() as made:
        if made:
            made.truncate(size)
        name = replicas.broadcast(made.name.encode() if made else b"").decode()
        with open(name, "r+b") as file:
            memory = mmap.mmap(file.fileno(), size)
        replicas.agree()  # all have opened it
    return np.frombuffer(memory, "uint8").reshape(replicas.workers + 1, aligned)


def _connected(replicas: Replicas, stack: contextlib.ExitStack) -> dict[int, tuple[socket.socket, int]]:
    """Connect every worker with every other one."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="masslib-"))
    path = f"{folder}/{replicas.rank}"
    server = stack.enter_context(socket.socket(socket.AF_UNIX))
    server.bind(path)
    server.listen(replicas.workers)
    server.settimeout(_CONNECT_SECONDS)
    members = [json.loads(content) for content in replicas.gather(json.dumps([path, os.getpid()]).encode())]
    others: dict[int, socket.socket] = {}
    for rank in range(replicas.rank):
        others[rank] = stack.enter_context(socket.socket(socket.AF_UNIX))
        others[rank].settimeout(_CONNECT_SECONDS)
        others[rank].connect(members[rank][0])
        others[rank].sendall(bytes([replicas.rank]))
    for _ in range(replicas.rank + 1, replicas.workers):
        connection = stack.enter_context(server.accept()[0])
        connection.settimeout(_CONNECT_SECONDS)
        others[connection.recv(1)[0]] = connection
    for connection in others.values():
        connection.settimeout(1.0)
    return {rank: (others[rank], members[rank][1]) for rank in sorted(others)}
