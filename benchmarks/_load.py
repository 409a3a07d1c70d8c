"""A load generator: connections that send the same request again as soon as it is answered."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass

import numpy as np

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Measured:
    """What a run found: requests per second, percentiles in ms, answers other than 200, and us of CPU per request."""

    rate: float
    p50: float
    p99: float
    errors: int
    cpu: float = 0.0


def request(path: str, body: bytes, kind: str, **headers: str) -> bytes:
    """A POST as bytes."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class _Client(asyncio.Protocol):
    def __init__(self, data: bytes, end: float, times: list[float], errors: list[bytes]):
        self._data, self._end, self._times, self._errors = data, end, times, errors
        self._answer = b""
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self._transport = transport
        self._send()

    def _send(self):
        self._answer, self._start = b"", time.perf_counter()
        self._transport.write(self._data)

    def data_received(self, data):
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if not found:
            return
        length = _LENGTH.search(head)
        whole = len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")
        if not whole:
            return
        now = time.perf_counter()
        if head.startswith(b"HTTP/1.1 200"):
            self._times.append(now - self._start)
        else:
            self._errors.append(self._answer[:300])
        if now < self._end:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exception):
        if time.perf_counter() < self._end:
            self._errors.append(b"lost")
        self.closed.set_result(None)


def load(port: int, data: bytes, connections: int, seconds: float) -> Measured:
    """Ask for some seconds."""
    times: list[float] = []
    errors: list[bytes] = []

    async def run() -> float:
        loop, start = asyncio.get_running_loop(), time.perf_counter()
        made = [
            await loop.create_connection(lambda: _Client(data, start + seconds, times, errors), "127.0.0.1", port)
            for _ in range(connections)
        ]
        await asyncio.wait_for(asyncio.gather(*(client.closed for _, client in made)), seconds + 30)
        return time.perf_counter() - start

    try:
        import uvloop

        took = uvloop.run(run())
    except ModuleNotFoundError:
        took = asyncio.run(run())
    if not times:
        return Measured(0, float("nan"), float("nan"), len(errors))
    p50, p99 = np.percentile(times, [50, 99]) * 1000
    return Measured(len(times) / took, float(p50), float(p99), len(errors))
