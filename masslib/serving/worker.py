"""A worker process: takes connections from a socket it inherits, and serves what the supervisor tells it to.

`python -m masslib.serving.worker SOCKET CONTROL FOLDER`, two numbers of descriptors and a folder for what the workers
share; the settings come in the environment. Lines of JSON go both ways over CONTROL.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import ssl
import sys
from pathlib import Path

from masslib.serving import logs, settings
from masslib.serving.app import App
from masslib.serving.http import Limits, Server
from masslib.serving.registry import Registry
from masslib.serving.service import Service

_LINE = 64 * 2**20


async def _main(listening: int, control: int, shared: Path) -> None:
    told = settings.loads(os.environ[settings.ENVIRONMENT])
    recorder = None
    if told.record is not None:
        from masslib.serving.recording import Recorder  # SQLAlchemy is slow to import

        recorder = Recorder(told.record)
    registry = Registry(told, shared)
    service = Service(registry, told, recorder)
    app = App(service, settings.tokens(told.token_file), loopback=told.host in ("127.0.0.1", "localhost", "::1"))
    server = Server(app.handle, Limits(told.max_body, told.read_timeout, told.idle_timeout), app.refuse)
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=control), limit=_LINE)
    listens = False
    while line := await reader.readline():
        message = json.loads(line)
        if message["do"] == "drain":
            break
        failed = await registry.apply(message)
        # What is loaded stays: the collector need not look at it again, which would take milliseconds each time.
        gc.collect()
        gc.freeze()
        if not listens and message["open"]:
            await server.listen(socket.socket(fileno=listening), _tls(told))
            listens = True
        service.ready = listens
        writer.write(json.dumps({"number": message["number"], "failed": failed, "open": listens}).encode() + b"\n")
        await writer.drain()
    # The supervisor says so, or has died.
    service.ready = False
    cut = await server.drain(told.drain)
    if recorder is not None:
        recorder.close()
    logs.event("worker_ended", cut_off=cut)


def _tls(told: settings.Settings) -> ssl.SSLContext | None:
    if told.ssl_certfile is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(told.ssl_certfile, told.ssl_keyfile)
    return context


def main() -> None:
    """Run until the supervisor says to end, or has gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal sends these to all: the supervisor decides
        signal.signal(number, signal.SIG_IGN)
    gc.set_threshold(50_000, 20, 50)
    run = asyncio.run
    with contextlib.suppress(ModuleNotFoundError):  # there is none for Windows
        import uvloop

        run = uvloop.run
    run(_main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))


if __name__ == "__main__":
    main()
