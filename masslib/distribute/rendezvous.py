"""The processes of a cluster meet before TensorFlow starts, which would wait for a missing one in silence and forever.

Who connects proves that it knows the secret of the cluster, by the HMAC of its message and of a random challenge.
"""

from __future__ import annotations

import contextlib
import secrets
import selectors
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from masslib.distribute.cluster import SECRET, Cluster, check_ports, listening, split
from masslib.distribute.signed import signed, verified

_RETRY_SECONDS = 0.2
_SILENT_SECONDS, _CHALLENGE_SECONDS = 5.0, 2.0
_MESSAGE_BYTES = 1 << 16
_SECRETS_DIFFER = f"if it was a worker, its {SECRET} was another one"

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
    with contextlib.closing(_Reception(cluster)) as reception:
        problem: _Problem = {}
        while len(reception.present) < len(cluster.training) - 1 and not problem:
            left = deadline - time.monotonic()
            if left <= 0:
                problem = _missing(cluster, reception, timeout)
            for report in reception.reports(min(max(left, 0), 1.0)):
                problem = problem or _compared(report, about)
        reception.answer(problem)
    return problem


@dataclass
class _Visitor:
    """A connection to rank 0: a stranger, until it has reported as a worker."""

    connection: socket.socket
    challenge: bytes
    since: float
    received: bytes = b""
    rank: int | None = None


@dataclass(frozen=True)
class _Report:
    """What a worker says of itself, and whether another process has said that it is the same worker."""

    rank: int
    about: Mapping[str, str]
    again: bool


class _Reception:
    """The port of rank 0, where the workers report.

    Whoever does not know the secret, sends too much or keeps silent is dropped, and does not hold up the others.

    Attributes:
        refused: How many connections were dropped.
    """

    def __init__(self, cluster: Cluster):
        self._cluster, self.refused = cluster, 0
        self._selector = selectors.DefaultSelector()
        self._server = listening(cluster.address)
        self._server.setblocking(False)
        self._selector.register(self._server, selectors.EVENT_READ)

    @property
    def present(self) -> set[int]:
        """Ranks of the workers that have reported."""
        return {visitor.rank for visitor in self._visitors() if visitor.rank is not None}

    def close(self) -> None:
        """Close all connections."""
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()

    def reports(self, seconds: float) -> Iterator[_Report]:
        """Wait at most for so long until somebody connects or sends; return what new workers report."""
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                self._admit()
            elif report := self._read(key.data):
                yield report
        for visitor in self._visitors():
            if visitor.rank is None and time.monotonic() - visitor.since > _SILENT_SECONDS:
                self._refuse(visitor)

    def answer(self, problem: _Problem) -> None:
        """Tell all workers that have reported."""
        for visitor in self._visitors():
            if visitor.rank is not None:
                with contextlib.suppress(OSError):  # it has gone meanwhile; TensorFlow will tell
                    visitor.connection.sendall(signed(self._cluster.secret, visitor.challenge, {"problem": problem}))

    def _visitors(self) -> list[_Visitor]:
        return [key.data for key in self._selector.get_map().values() if key.data]

    def _admit(self) -> None:
        with contextlib.suppress(OSError):  # it has gone already
            connection, _ = self._server.accept()
            connection.setblocking(False)
            visitor = _Visitor(connection, secrets.token_hex(16).encode(), time.monotonic())
            self._selector.register(connection, selectors.EVENT_READ, visitor)
            connection.sendall(visitor.challenge + b"\n")

    def _refuse(self, visitor: _Visitor) -> None:
        self.refused += 1
        self._close(visitor)

    def _close(self, visitor: _Visitor) -> None:
        self._selector.unregister(visitor.connection)
        visitor.connection.close()

    def _read(self, visitor: _Visitor) -> _Report | None:
        """Read what has come; return the report of a worker once it is whole."""
        try:
            data = visitor.connection.recv(_MESSAGE_BYTES)
        except OSError:
            data = b""
        if visitor.rank is not None:
            if not data:  # it has ended, and may be started again
                self._close(visitor)
            return None
        visitor.received += data
        if data and b"\n" not in data and len(visitor.received) < _MESSAGE_BYTES:
            return None
        try:
            message = verified(self._cluster.secret, visitor.challenge, visitor.received)
        except ValueError:
            message = None  # a stranger, who is refused
        match message:
            case {"rank": int(rank), "about": dict(about)} if 0 < rank < len(self._cluster.training):
                again = rank in self.present
                visitor.rank = rank
                return _Report(rank, about, again)
        self._refuse(visitor)
        return None


def _missing(cluster: Cluster, reception: _Reception, timeout: float) -> _Problem:
    names = [
        f"worker {rank} at {address}"
        for rank, address in enumerate(cluster.training)
        if rank > 0 and rank not in reception.present
    ]
    text = f"{', '.join(names)} has not come within {timeout:g} s; start it, or look into its log for why it ended"
    if reception.refused:
        text += f" ({reception.refused} connections were refused: {_SECRETS_DIFFER})"
    return {"kind": "missing", "text": text}


def _compared(report: _Report, about: Mapping[str, str]) -> _Problem:
    rank, theirs = report.rank, report.about
    if report.again:
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
    refused = False
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection(chief, timeout=left) as connection, connection.makefile("rb") as stream:
                connection.settimeout(min(left, _CHALLENGE_SECONDS))
                challenge = stream.readline(_MESSAGE_BYTES).removesuffix(b"\n")
                connection.sendall(signed(cluster.secret, challenge, {"rank": cluster.rank, "about": dict(about)}))
                connection.settimeout(left + 5)
                line = stream.readline(_MESSAGE_BYTES)
                refused = bool(challenge) and not line
                return verified(cluster.secret, challenge, line)["problem"]
        except (OSError, ValueError):
            # Nobody is there yet, or the server of a training that is about to end.
            time.sleep(_RETRY_SECONDS)
    text = f"worker 0 at {cluster.training[0]} has not answered; start it, or look into its log for why it ended"
    if refused:
        text += f" (it refused this process: {_SECRETS_DIFFER})"
    return {"kind": "missing", "text": text}
