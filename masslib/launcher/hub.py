"""Where the workers of an engine report to the process that launched them: addresses, output, failures, results.

The engine starts the workers and brings back what they return; all else goes over connections of their own, so that
every engine is alike, and a worker whose process or host is lost is missed at once.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from masslib.distribute.cluster import listening
from masslib.distribute.signed import signed, verified

_HANDSHAKE_SECONDS = 10.0
_MESSAGE_BYTES = 1 << 20
_LOST_SECONDS = 24


@dataclass(frozen=True)
class Invitation:
    """What a worker needs to report: it travels with the task, through the engine.

    Attributes:
        host: Where the launching process listens.
        port: Its port.
        secret: What proves that one of its workers reports.
    """

    host: str
    port: int
    secret: str


class Hub:
    """The launching end.

    Args:
        host: Address at which the hosts of the workers reach this process. It listens there alone; at all addresses
            only where that is not one of this machine, as in a container behind NAT.
        workers: How many there are.

    Attributes:
        invitation: What the workers need.
        events: Pairs of a rank and the message that it has sent, or None when its connection has ended.
    """

    def __init__(self, host: str, workers: int):
        self._server = listening(f"{host}:0")
        self.invitation = Invitation(host, self._server.getsockname()[1], secrets.token_hex(32))
        self.events: queue.Queue[tuple[int, Mapping[str, Any] | None]] = queue.Queue()
        self._workers, self._links, self._lock = workers, {}, threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a message to all workers."""
        with self._lock:
            links = list(self._links.values())
        for link in links:
            with contextlib.suppress(OSError):  # it has gone, which `events` tells
                link.send(message)

    def close(self) -> None:
        """End all connections, which ends the workers."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # or a thread that waits in `accept` would let one more in
        self._server.close()
        with self._lock:
            for link in self._links.values():
                link.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._follow, args=(connection,), daemon=True).start()

    def _follow(self, connection: socket.socket) -> None:
        """Let one worker in, and pass on what it says."""
        challenge = secrets.token_hex(16).encode()
        connection.settimeout(_HANDSHAKE_SECONDS)
        try:
            connection.sendall(challenge + b"\n")
            link = Link(connection, self.invitation.secret, challenge)
        except OSError:
            connection.close()
            return
        try:
            rank = link.receive()["rank"]
            with self._lock:
                if rank in self._links or not 0 <= rank < self._workers:
                    raise ValueError(f"a second worker {rank}")
                self._links[rank] = link
        except (OSError, ValueError, KeyError, TypeError):  # a stranger, or an engine that starts a task again
            link.close()
            return
        connection.settimeout(None)
        with contextlib.closing(link), contextlib.suppress(OSError, ValueError):
            while True:
                self.events.put((rank, link.receive()))
        self.events.put((rank, None))


class Link:
    """One connection, at either end."""

    def __init__(self, connection: socket.socket, secret: str, challenge: bytes):
        _notice_loss(connection)
        self._connection, self._secret, self._challenge = connection, secret, challenge
        self._stream, self._lock = connection.makefile("rb"), threading.Lock()

    @classmethod
    def to(cls, invitation: Invitation, rank: int) -> Link:
        """Connect a worker to its hub.

        Raises:
            OSError: If there is none any more.
        """
        connection = socket.create_connection((invitation.host, invitation.port), timeout=_HANDSHAKE_SECONDS)
        challenge = b""
        with contextlib.ExitStack() as stack:
            stack.callback(connection.close)
            while not challenge.endswith(b"\n"):  # byte by byte, for what follows belongs to the stream
                if not (byte := connection.recv(1)):
                    raise ConnectionError("the launching process has hung up")
                challenge += byte
            stack.pop_all()
        connection.settimeout(None)
        link = cls(connection, invitation.secret, challenge.removesuffix(b"\n"))
        link.send({"rank": rank})
        return link

    @property
    def host(self) -> str:
        """The address of this end: one at which the network reaches this host."""
        return self._connection.getsockname()[0]

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message.

        Raises:
            OSError: If the other end has gone.
        """
        with self._lock:
            self._connection.sendall(signed(self._secret, self._challenge, message))

    def receive(self) -> Any:
        """Wait for a message.

        Raises:
            OSError: If the other end has gone.
            ValueError: If what came is none.
        """
        line = self._stream.readline(_MESSAGE_BYTES)
        if not line:
            raise ConnectionError("the other end has gone")
        return verified(self._secret, self._challenge, line)

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)  # a thread that waits for the other end goes on
        self._connection.close()
        self._stream.close()


def _notice_loss(connection: socket.socket) -> None:
    """Let a connection end when the other host is silent for long: without power or network it does not say so."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _LOST_SECONDS // 4)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _LOST_SECONDS // 4)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _LOST_SECONDS * 1000)  # of what was sent
