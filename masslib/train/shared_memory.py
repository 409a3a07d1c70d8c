"""All-reduce in shared memory for workers that run on one machine.

TensorFlow's collectives send the gradients through gRPC even then, at about 0.5 GB/s and on the cores that compute.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import mmap
import os
import platform
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import tensorflow as tf
from numpy.typing import DTypeLike

from masslib._util.log import logger
from masslib.train.replicas import Replicas

_FROZEN_SECONDS = 6.0
_CONNECT_SECONDS = 60.0
_ALIGNMENT = 64  # TensorFlow takes over memory with this alignment, and copies any other


class SharedMemoryAllReduce:
    """Sums arrays over the workers of one machine; all of them get the same bits.

    Args:
        slots: Shared memory `(rows, nbytes)`, see `slots_for`: a row for each rank, and those that spare a barrier.
        rank: Rank of this worker.
        others: Rank -> connection to that worker and its process id.
    """

    def __init__(self, slots: np.ndarray, rank: int, others: dict[int, tuple[socket.socket, int]]):
        self._slots, self._rank, self._others = slots, rank, others
        self._turn = 0

    def fits(self, tensors: Sequence[tf.Tensor]) -> bool:
        """Whether there is room for tensors."""
        needed = bytes_of((tensor.shape.num_elements(), tensor.dtype.as_numpy_dtype) for tensor in tensors)
        return needed <= self._slots.shape[1]

    def sum(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Return the sums, flat, of the arrays that the workers pass, all of the same sizes and dtypes. Collective.

        Raises:
            ConnectionError: If another worker has gone, or has been stopped for too long.
        """
        workers = len(self._others) + 1
        if workers == 2:  # each sums all: one pass less over the memory than to sum a half and copy the whole
            # In turns in two pairs of rows: who writes into one again has passed the barrier of the other, which the
            # other worker passes only after it has read this one.
            rows = self._slots[2 * self._turn : 2 * self._turn + 2]
            self._turn = 1 - self._turn
        else:
            rows = self._slots
        parts = [_cut(row, arrays) for row in rows]
        for mine, array in zip(parts[self._rank], arrays, strict=True):
            mine[:] = array.reshape(-1)
        self._barrier()
        # TensorFlow and an optimizer may keep the result for longer than until the next sum.
        result = _private(arrays)
        if workers == 2:
            for first, second, out in zip(*parts, result, strict=True):
                np.add(first, second, out=out)
            return result
        for *summands, total in zip(*parts, strict=True):
            # Each rank sums its share of all arrays, in the order of the ranks.
            share = slice(len(total) * self._rank // workers, len(total) * (self._rank + 1) // workers)
            np.add(summands[0][share], summands[1][share], out=total[share])
            for part in summands[2:]:
                total[share] += part[share]
        self._barrier()
        for total, out in zip(parts[-1], result, strict=True):
            out[:] = total
        return result

    def _barrier(self) -> None:
        for rank, (connection, _) in self._others.items():
            try:
                connection.send(b".")
            except OSError as error:
                raise ConnectionError(f"worker {rank} has gone") from error
        for rank, (connection, pid) in self._others.items():
            _await(connection, rank, pid)


def slots_for(workers: int) -> int:
    """Rows of the memory that so many workers share: two for each of two, else one for each and one for the sum."""
    return 4 if workers == 2 else workers + 1


def bytes_of(arrays: Iterable[tuple[int, DTypeLike]]) -> int:
    """Bytes that arrays, given as sizes and dtypes, take in a row: each begins where TensorFlow can take it over."""
    return sum(_aligned(size * np.dtype(dtype).itemsize) for size, dtype in arrays)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


def _cut(row: np.ndarray, like: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Cut a row of bytes into flat arrays of the sizes and dtypes of others."""
    starts = itertools.accumulate((_aligned(array.nbytes) for array in like), initial=0)
    return [row[start : start + array.nbytes].view(array.dtype) for start, array in zip(starts, like, strict=False)]


def _private(like: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Memory of this worker alone for flat arrays of the sizes and dtypes of others."""
    memory = np.empty(bytes_of((array.size, array.dtype) for array in like) + _ALIGNMENT, "uint8")
    return _cut(memory[-memory.ctypes.data % _ALIGNMENT :], like)


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
def shared_memory(replicas: Replicas, nbytes: int, *, wanted: bool) -> Iterator[SharedMemoryAllReduce | None]:
    """Share memory for arrays of so many bytes among the workers; None where they cannot or do not want to. Collective.

    It takes workers that all run on one machine, each with one replica on a CPU, and room for the rows of `slots_for`.
    Where that cannot be had on one worker, all of them do without, and rank 0 logs a warning.
    """
    if not wanted or replicas.workers == 1 or replicas.local > 1 or not _on_one_machine(replicas):
        yield None
        return
    with contextlib.ExitStack() as stack:
        slots = _mapped(replicas, nbytes)
        others = None if slots is None else _connected(replicas, stack)
        yield None if others is None else SharedMemoryAllReduce(slots, replicas.rank, others)


def _on_one_machine(replicas: Replicas) -> bool:
    boot = Path("/proc/sys/kernel/random/boot_id")
    here = None
    if boot.is_file() and not tf.config.list_physical_devices("GPU"):
        namespaces = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "net", "mnt")]
        here = [platform.node(), boot.read_text(), *namespaces, tempfile.gettempdir()]
    places = replicas.gather(json.dumps(here).encode())
    return here is not None and len(set(places)) == 1


def _mapped(replicas: Replicas, nbytes: int) -> np.ndarray | None:
    """Map one file into the memory of all workers; its name is removed at once, so that no file can be left behind."""
    aligned = _aligned(max(nbytes, 1))
    size = slots_for(replicas.workers) * aligned
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    memory, problem = None, None
    with contextlib.ExitStack() as stack:
        name = ""
        if replicas.is_chief:
            try:
                made = stack.enter_context(tempfile.NamedTemporaryFile(dir=folder))
                # Writing to a page for which there is no room left would end the process by SIGBUS.
                os.posix_fallocate(made.fileno(), 0, size)
                name = made.name
            except OSError as error:
                problem = error
        name = replicas.broadcast(name.encode()).decode()
        if name:
            try:
                with open(name, "r+b") as file:
                    memory = mmap.mmap(file.fileno(), size)
            except OSError as error:
                problem = error
        remedy = "start the container with more room, as by `docker run --shm-size=1g`"
        impossible = _is_impossible(
            replicas, f"{size / 1e6:.0f} MB in {folder or tempfile.gettempdir()}", problem, remedy
        )
    return None if impossible else np.frombuffer(memory, "uint8").reshape(-1, aligned)


def _is_impossible(replicas: Replicas, wanted: str, problem: OSError | None, remedy: str) -> bool:
    """Whether any worker has a problem, so that none of them shares memory; rank 0 logs why. Collective."""
    problems = [content.decode() for content in replicas.gather(str(problem or "").encode())]
    found = next(filter(None, problems), None)
    if found and replicas.is_chief:
        logger.warning(
            "the workers could not share memory (%s: %s); their gradients travel through the network, which is slower. "
            "Mend it: %s. To do without it in silence, pass wire='float32' to fit.",
            wanted,
            found,
            remedy,
        )
    return found is not None


def _connected(replicas: Replicas, stack: contextlib.ExitStack) -> dict[int, tuple[socket.socket, int]] | None:
    """Connect every worker with every other one; None if one of them cannot be connected to. Collective."""
    server = stack.enter_context(socket.socket(socket.AF_UNIX))
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="masslib-"))
    path, problem = f"{folder}/{replicas.rank}", None
    try:
        server.bind(path)  # fails where the path is longer than the 107 bytes of a socket's address
    except OSError as error:
        problem = error
    if _is_impossible(replicas, f"a socket in {folder}", problem, "set TMPDIR to a shorter path"):
        return None
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
