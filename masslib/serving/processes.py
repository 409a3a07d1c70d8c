"""The processes of a service: the one that checks packages, and the workers that answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from masslib.serving import logs
from masslib.serving.settings import CHECK_SECONDS, ENVIRONMENT, Settings

_LINE = 2**20


class Checker:
    """Asks a child whether a package is fit; a package at which the child dies is not."""

    def __init__(self, settings: Settings):
        self._prefer = list(settings.prefer)
        self._process: asyncio.subprocess.Process | None = None

    async def check(self, folder: Path) -> dict[str, Any]:
        """`file` and `sha256`, or `why` not."""
        process = await self._started()
        line = json.dumps({"folder": str(folder), "prefer": self._prefer}).encode() + b"\n"
        try:
            process.stdin.write(line)  # type: ignore[union-attr]
            await process.stdin.drain()  # type: ignore[union-attr]
            async with asyncio.timeout(CHECK_SECONDS):
                answer = await process.stdout.readline()  # type: ignore[union-attr]
        except TimeoutError:
            await self.close()
            return {"why": f"the check did not end within {CHECK_SECONDS} s"}
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
        if not answer:
            status = await process.wait()
            self._process = None
            return {"why": f"the process that loaded it died (exit status {status})"}
        return json.loads(answer)

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            pipe = asyncio.subprocess.PIPE
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "masslib.serving.checker", stdin=pipe, stdout=pipe, limit=_LINE,
                start_new_session=True,
            )  # fmt: skip
        return self._process

    async def close(self) -> None:
        """End the child."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        self._process = None


class Worker:
    """One place of a worker: its socket stays when the process dies, and so do the connections that wait there.

    Args:
        sock: Where it listens.
        settings: For the process.
        shared: Folder that the workers share.
    """

    def __init__(self, sock: socket.socket, settings: Settings, shared: Path):
        self._socket, self._settings, self._shared = sock, settings, shared
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start the process."""
        ours, theirs = socket.socketpair()
        environment = {**os.environ, ENVIRONMENT: self._settings.dumps()}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "masslib.serving.worker",
            str(self._socket.fileno()), str(theirs.fileno()), str(self._shared),
            pass_fds=(self._socket.fileno(), theirs.fileno()), env=environment,
        )  # fmt: skip
        theirs.close()
        self._reader, self._writer = await asyncio.open_connection(sock=ours, limit=_LINE)

    async def apply(self, state: Mapping[str, Any]) -> dict[str, Any] | None:
        """Bring the process to a state; None if it has died."""
        try:
            self._writer.write(json.dumps({"do": "apply", **state}).encode() + b"\n")  # type: ignore[union-attr]
            await self._writer.drain()  # type: ignore[union-attr]
            line = await self._reader.readline()  # type: ignore[union-attr]
        except (BrokenPipeError, ConnectionResetError):
            return None
        return json.loads(line) if line else None

    async def ended(self) -> int:
        """Wait for the process."""
        status = await self._process.wait()  # type: ignore[union-attr]
        self._writer.close()  # type: ignore[union-attr]
        return status

    async def stop(self, seconds: float) -> None:
        """Let the process answer what it has, and end it after some seconds at the latest."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._writer.write(b'{"do": "drain"}\n')  # type: ignore[union-attr]
            await self._writer.drain()  # type: ignore[union-attr]
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
        except TimeoutError:
            logs.event("worker_killed", level="error", worker=self._process.pid)
            self._process.kill()
            await self._process.wait()
