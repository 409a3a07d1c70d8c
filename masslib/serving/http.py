"""HTTP/1.1 over asyncio: requests parsed by llhttp, with limits on what a client may send and how long it may take."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import ssl
import struct
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote

import httptools

from masslib.serving.messages import HTTPError, Request, Response

MAX_HEAD = 32 * 1024
"""Bytes of the request line and the headers together."""
_MAX_PIPELINED = 16
_SWEEP = 0.5
_SO_ATTACH_FILTER = 26  # the socket module does not name it


Handler = Callable[[Request], Awaitable[Response]]


@dataclass
class Limits:
    """What a client may send (bytes), and for how long (seconds)."""

    body: int
    read: float
    idle: float


class Server:
    """All connections of a process.

    Args:
        handle: Answers a request; what it raises is its fault, so it raises nothing.
        limits: See there.
        refuse: Makes the response of an error that the parser finds.
    """

    def __init__(self, handle: Handler, limits: Limits, refuse: Callable[[HTTPError], Response]):
        self.handle, self.limits, self.refuse = handle, limits, refuse
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.draining = False
        self._listening: list[tuple[asyncio.Server, socket.socket, ssl.SSLContext | None]] = []
        self._sweeper = self.loop.create_task(self._sweep())

    async def listen(self, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Take connections from a socket that is bound."""
        kept = sock.dup()
        server = await self.loop.create_server(lambda: Connection(self), sock=sock, ssl=tls, backlog=2048)
        self._listening.append((server, kept, tls))

    async def drain(self, seconds: float) -> int:
        """Answer what has been sent, take nothing new, and return how many connections were cut off after `seconds`."""
        end = self.loop.time() + seconds
        self.draining = True
        # Whoever is about to use an open connection still gets an answer, with which it ends.
        await asyncio.sleep(min(0.5, seconds / 2))
        for server, kept, tls in self._listening:
            server.close()
            kept.setblocking(False)
            _take_no_more(kept)
            while True:
                try:
                    accepted, _ = kept.accept()
                except OSError:
                    break
                accepted.setblocking(False)
                await self.loop.connect_accepted_socket(lambda: Connection(self), accepted, ssl=tls)
            kept.close()
        quiet = self.loop.time() + min(0.5, seconds / 2)
        while self.connections and self.loop.time() < end:
            if self.loop.time() > quiet:
                for connection in list(self.connections):
                    connection.close_if_idle()
            await asyncio.sleep(0.02)
        left = len(self.connections)
        for connection in list(self.connections):
            connection.abort()
        self._sweeper.cancel()
        return left

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            now = self.loop.time()
            for connection in list(self.connections):
                connection.check(now)


def _take_no_more(listening: socket.socket) -> None:
    """Let no new connection into the queue of a socket, whose connections so far can still be accepted.

    Linux would reset those that come between the last `accept` and `close`. A filter that lets no packet through
    (classic BPF, see socket(7)) makes them knock again after a second, when another process listens or nobody does.
    """
    if sys.platform != "linux":
        listening.listen(0)
    else:
        nothing = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # one instruction: return 0
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(nothing)))


class Connection(asyncio.Protocol):
    """One connection: parses, hands on one request after the other, writes the answers."""

    def __init__(self, server: Server):
        self._server, self._loop = server, server.loop
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._task: asyncio.Task | None = None
        self._closing = self._stalled = self._reading = False
        self._since = self._loop.time()
        self._start()

    def _start(self) -> None:
        self._url, self._headers, self._body = b"", {}, []
        self._head = self._size = 0
        self._whole_head = False

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._server.connections.add(self)

    def connection_lost(self, exception: Exception | None) -> None:
        self._closing = True
        self._server.connections.discard(self)
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if not self._reading:
            self._reading, self._since = True, self._loop.time()
        try:
            self._parser.feed_data(data)
            if not self._whole_head and self._reading:
                self._head += len(data)
                if self._head > MAX_HEAD:
                    raise _Refused(431, f"request line and headers have more than {MAX_HEAD} bytes")
        except httptools.HttpParserUpgrade:
            self._fail(HTTPError(400, "no other protocol is spoken here"))
        except httptools.HttpParserError as error:
            known = error if isinstance(error, _Refused) else error.__context__
            self._fail(known.error if isinstance(known, _Refused) else HTTPError(400, "this is not HTTP/1.1"))

    def eof_received(self) -> bool:
        return self._task is not None  # an answer that is on its way is still sent

    def pause_writing(self) -> None:
        self._stalled, self._since = True, self._loop.time()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._stalled = False
        self._transport.resume_reading()

    # What the parser calls

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > MAX_HEAD // 4:
            raise _Refused(414, f"the address has more than {MAX_HEAD // 4} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head += len(name) + len(value) + 4
        if self._head > MAX_HEAD:
            raise _Refused(431, f"request line and headers have more than {MAX_HEAD} bytes")
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._whole_head = True
        length = self._headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > self._server.limits.body:
            raise self._too_large()
        if self._headers.get(b"expect", b"").lower() == b"100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._server.limits.body:
            raise self._too_large()
        self._body.append(part)

    def on_message_complete(self) -> None:
        try:
            url = httptools.parse_url(self._url)
            path = unquote((url.path or b"/").decode("ascii"), errors="strict")
        except (httptools.HttpParserInvalidURLError, ValueError):
            raise _Refused(400, "the address is not encoded as it should be") from None
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        method = self._parser.get_method().decode("ascii")
        request = Request(method, path, url.query or b"", self._headers, body, self._loop.time())
        keep = self._parser.should_keep_alive()
        self._start()
        self._reading = False
        if self._task is None:
            self._task = self._loop.create_task(self._answer(request, keep))
        elif len(self._waiting) < _MAX_PIPELINED:
            self._waiting.append((request, keep))
        else:
            raise _Refused(429, f"more than {_MAX_PIPELINED} requests wait on one connection")

    # What follows from them

    async def _answer(self, request: Request, keep: bool) -> None:
        while True:
            response = await self._server.handle(request)
            keep = keep and not self._server.draining and not self._closing
            self._write(response, request, keep)
            if not keep:
                self._closing = True
                self._transport.close()
                return
            self._since = self._loop.time()
            if not self._waiting:
                self._task = None
                return
            request, keep = self._waiting.popleft()

    def _write(self, response: Response, request: Request | None, keep: bool) -> None:
        lines = [
            f"HTTP/1.1 {response.status} {_reason(response.status)}\r\ncontent-type: {response.content_type}\r\n"
            f"content-length: {len(response.body)}\r\n"
        ]
        if request is not None:
            lines.append(f"x-request-id: {request.id}\r\n")
        lines += [f"{name}: {value}\r\n" for name, value in response.headers.items()]
        lines.append("\r\n" if keep else "connection: close\r\n\r\n")
        head = "".join(lines).encode("latin-1")
        body = b"" if request is not None and request.method == "HEAD" else response.body
        if len(body) > 65536:  # no copy of what is large
            self._transport.writelines([head, body])
        else:
            self._transport.write(head + body)

    def _fail(self, error: HTTPError) -> None:
        """Answer what cannot be parsed, and end the connection; an answer under way comes alone."""
        if self._closing:
            return
        self._closing, self._since = True, self._loop.time()
        if self._task is not None:
            return
        self._write(self._server.refuse(error), None, False)
        # Closed at once, a client that still sends would be reset and might never read the answer.
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _too_large(self) -> _Refused:
        return _Refused(413, f"the body has more than {self._server.limits.body} bytes")

    def check(self, now: float) -> None:
        """Cut off a client that sends or reads too slowly, or not at all."""
        limits = self._server.limits
        if self._stalled or self._closing:
            if now - self._since > (limits.read if self._task is None else limits.idle):
                self.abort()
        elif self._reading:
            if now - self._since > limits.read and self._task is None:
                self._fail(HTTPError(408, f"the request was not whole within {limits.read:g} s"))
        elif self._task is None and now - self._since > limits.idle:
            self._transport.close()

    def close_if_idle(self) -> None:
        """End the connection unless a request is under way."""
        if self._task is None and not self._reading:
            self._transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        self._transport.abort()


class _Refused(httptools.HttpParserError):
    """An error of ours, raised in a callback of the parser."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.error = HTTPError(status, message)


def _reason(status: int) -> str:
    return _REASONS[status]


_REASONS = {status.value: status.phrase for status in HTTPStatus}
