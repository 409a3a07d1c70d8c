"""The service as an ASGI application, for servers of others: one process, without the supervisor."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from masslib._util.messages import first_line
from masslib.serving import checker, logs, settings, store
from masslib.serving.app import App
from masslib.serving.messages import HTTPError, Request, Response
from masslib.serving.registry import Registry
from masslib.serving.service import Service
from masslib.serving.settings import Settings

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
_POLL = 1.0


class Application:
    """ASGI: looks at the folder every second, as the supervisor does, and answers.

    Args:
        told: Settings; address, processes and TLS are the business of the server around it.
    """

    def __init__(self, told: Settings):
        self._settings, self._folder = told, Path(told.folder).absolute()
        self._shared = tempfile.TemporaryDirectory(prefix="masslib-serving-")
        self._verdicts: dict[tuple[str, int], tuple[store.Fingerprint, dict[str, Any]]] = {}
        self._state: dict[str, Any] = {}
        self._watching: asyncio.Task | None = None

    async def start(self) -> None:
        """Load what lies in the folder, and go on watching it; done once."""
        if self._watching is not None:
            return
        self._registry = Registry(self._settings, Path(self._shared.name))
        self._service = Service(self._registry, self._settings)
        self._app = App(self._service, settings.tokens(self._settings.token_file))
        await self._look()
        self._service.ready = True
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stop watching, and remove what lies among the temporary files."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        self._shared.cleanup()

    async def answer(self, request: Request) -> Response:
        """One whole request."""
        if len(request.body) > self._settings.max_body:
            return self._app.refuse(HTTPError(413, f"the body has more than {self._settings.max_body} bytes"), request)
        return await self._app.handle(request)

    async def _live(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await self.start()
            await send({"type": "lifespan.startup.complete"})
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_POLL)
            try:
                await self._look()
            except (OSError, ValueError) as error:
                logs.event("scan_failed", level="error", why=first_line(error))

    async def _look(self) -> None:
        state = await asyncio.get_running_loop().run_in_executor(None, self._scan)
        if state != self._state:
            self._state = state
            await self._registry.apply({"models": state})

    def _scan(self) -> dict[str, Any]:
        models = {}
        for name in store.models(self._folder):
            good, refused = {}, {}
            for number, fingerprint in store.versions(self._folder, name).items():
                folder = self._folder / name / str(number)
                known = self._verdicts.get((name, number))
                if known is None or known[0] != fingerprint:
                    known = self._verdicts[name, number] = (fingerprint, checker.ask(folder, self._settings.prefer))
                if "why" in known[1]:
                    refused[number] = known[1]["why"]
                else:
                    good[number] = {"folder": str(folder), **known[1]}
            models[name] = store.wanted(good, refused, store.read_labels(self._folder, name), self._settings.keep)
        return models

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One request, or the life of the server around it."""
        if scope["type"] == "lifespan":
            return await self._live(receive, send)
        if scope["type"] != "http":
            raise ValueError(f"only http is answered, not {scope['type']}")
        await self.start()
        request = Request(
            scope["method"],
            scope["path"],
            scope["query_string"],
            {name.lower(): value for name, value in scope["headers"]},
            b"",
            time.monotonic(),
        )
        try:
            request.body = await _body(receive, self._settings.max_body)
            response = await self.answer(request)
        except HTTPError as error:
            response = self._app.refuse(error, request)
        headers = {
            "content-type": response.content_type,
            "content-length": str(len(response.body)),
            "x-request-id": request.id,
            **response.headers,
        }
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": response.status, "headers": pairs})
        await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else response.body})


async def _body(receive: Receive, most: int) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HTTPError(400, "the client has gone")
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if size > most:
            raise HTTPError(413, f"the body has more than {most} bytes")
        parts.append(part)
    return b"".join(parts)
