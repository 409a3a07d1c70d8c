"""The parent of the workers: checks what appears in the folder, tells them what to serve, starts them again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from masslib.serving import logs, store
from masslib.serving.processes import Checker, Worker
from masslib.serving.settings import ENVIRONMENT, Settings, loads

_POLL = 0.25
_IDLE_POLLS = 40
_BACKOFF = (0.0, 0.1, 0.5, 2.0, 5.0)
_HEALTHY = 30.0


class Supervisor:
    """Runs a service.

    Args:
        settings: Checked ones.
        shared: Folder for what the processes share.
    """

    def __init__(self, settings: Settings, shared: Path):
        self._settings, self._shared, self._folder = settings, shared, Path(settings.folder).absolute()
        self._checker = Checker(settings)
        self._verdicts: dict[tuple[str, int], tuple[store.Fingerprint, dict[str, Any]]] = {}
        self._labels: dict[str, store.Labels] = {}
        self._state: dict[str, Any] = {"number": 0, "models": {}, "open": False, "restarts": 0}
        self._workers: list[Worker] = []
        self._locks: list[asyncio.Lock] = []
        self._tasks: list[asyncio.Task] = []
        self._ending = asyncio.Event()

    async def run(self) -> None:
        """Serve until a signal, or the end of standard input if the settings say so."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        with _sockets(self._settings) as sockets:
            port = sockets[0].getsockname()[1]
            self._workers = [Worker(sock, self._settings, self._shared) for sock in sockets]
            self._locks = [asyncio.Lock() for _ in sockets]
            started = asyncio.gather(*(worker.start() for worker in self._workers))
            await self._scan()
            await started
            self._state["open"] = True
            await self._tell()
            self._tasks = [asyncio.create_task(self._watch(k)) for k in range(len(self._workers))]
            self._tasks.append(asyncio.create_task(self._watch_folder()))
            if self._settings.stop_with_stdin:
                await _on_end_of_input(self._ending)
            scheme = "http" if self._settings.ssl_certfile is None else "https"
            host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
            logs.event(
                "ready", url=f"{scheme}://{host}:{port}", port=port, workers=[worker.pid for worker in self._workers],
                models=sorted(name for name, told in self._state["models"].items() if told["versions"]),
            )  # fmt: skip
            await self._ending.wait()
            logs.event("draining")
            for sock in sockets:  # from now on a worker that ends takes its queue of connections along
                sock.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.gather(*(worker.stop(self._settings.drain + 5) for worker in self._workers))
            await self._checker.close()
            logs.event("ended")

    async def _scan(self) -> bool:
        """Check what is new; whether the state is another one."""
        models: dict[str, Any] = {}
        seen = set()
        for name in store.models(self._folder):
            good, refused = {}, {}
            for number, fingerprint in sorted(store.versions(self._folder, name).items()):
                seen.add((name, number))
                verdict = await self._verdict(name, number, fingerprint)
                if "why" in verdict:
                    refused[number] = verdict["why"]
                else:
                    good[number] = {"folder": str(self._folder / name / str(number)), **verdict}
            labels = self._read_labels(name)
            if good or refused:
                models[name] = store.wanted(good, refused, labels, self._settings.keep)
        self._verdicts = {key: verdict for key, verdict in self._verdicts.items() if key in seen}
        changed = models != self._state["models"]
        self._state["models"] = models
        self._state["number"] += changed
        return changed

    async def _verdict(self, name: str, number: int, fingerprint: store.Fingerprint) -> dict[str, Any]:
        known = self._verdicts.get((name, number))
        if known is not None and known[0] == fingerprint:
            return known[1]
        verdict = await self._checker.check(self._folder / name / str(number))
        if "why" in verdict:
            logs.event("refused", level="error", model=name, version=number, why=verdict["why"])
        else:
            logs.event("verified", model=name, version=number, file=verdict["file"])
        self._verdicts[name, number] = (fingerprint, verdict)
        return verdict

    def _read_labels(self, name: str) -> store.Labels:
        """The labels; the last good ones if the file is damaged."""
        try:
            self._labels[name] = store.read_labels(self._folder, name)
        except ValueError as error:
            logs.event("labels_refused", level="error", model=name, why=str(error))
        return self._labels.get(name, store.Labels())

    async def _tell(self) -> None:
        """Bring all workers to the state."""
        replies = await asyncio.gather(*(self._apply(k) for k in range(len(self._workers))))
        failed = {
            (name, int(number)): why
            for reply in replies if reply is not None
            for name, own in reply["failed"].items()
            for number, why in own.items()
        }  # fmt: skip
        for key, why in failed.items():
            fingerprint, _ = self._verdicts[key]
            self._verdicts[key] = (fingerprint, {"why": why})
        if failed and await self._scan():
            await self._tell()

    async def _apply(self, k: int) -> dict[str, Any] | None:
        async with self._locks[k]:
            return await self._workers[k].apply(self._state)

    async def _watch_folder(self) -> None:
        quiet = 0
        while True:
            await asyncio.sleep(_POLL)
            quiet += 1
            try:
                if await self._scan():
                    quiet = 0
                    await self._tell()
                elif quiet == _IDLE_POLLS:  # its memory is worth more than the moment that it takes to start
                    await self._checker.close()
            except OSError as error:  # such as a folder that was removed
                logs.event("scan_failed", level="error", why=str(error))
                await asyncio.sleep(1)

    async def _watch(self, k: int) -> None:
        """Start the process of a place again whenever it dies."""
        from masslib.serving import metrics

        loop, deaths = asyncio.get_running_loop(), 0
        while True:
            worker, since = self._workers[k], loop.time()
            pid = worker.pid
            status = await worker.ended()
            deaths = deaths + 1 if loop.time() - since < _HEALTHY else 1
            self._state["restarts"] += 1
            logs.event("worker_died", level="error", worker=pid, status=status, restarts=self._state["restarts"])
            metrics.forget(pid)
            await asyncio.sleep(_BACKOFF[min(deaths, len(_BACKOFF)) - 1])
            async with self._locks[k]:
                await worker.start()
            await self._apply(k)


@contextlib.contextmanager
def _sockets(settings: Settings) -> Iterator[list[socket.socket]]:
    """A bound socket per worker; the system deals the connections out where it can, else all share one."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    deals = sys.platform == "linux" and settings.workers > 1
    port, sockets = settings.port, []
    try:
        for _ in range(settings.workers if deals else 1):
            sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(sock)
            # A port in TIME_WAIT is taken again; one that somebody else listens at is not.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if deals:
                if len(sockets) == 1 and port:
                    _check_free(family, settings)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((settings.host, port))
            port = sock.getsockname()[1]
            sock.listen(2048)
            sock.setblocking(False)
        yield sockets if deals else sockets * settings.workers
    finally:
        for sock in sockets:
            sock.close()


def _check_free(family: int, settings: Settings) -> None:
    """With SO_REUSEPORT a second service would share the port of the first without a word."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((settings.host, settings.port))


async def _on_end_of_input(event: asyncio.Event) -> None:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )

    async def wait() -> None:
        await reader.read()
        transport.close()
        event.set()

    event.task = asyncio.create_task(wait())  # type: ignore[attr-defined]


def _prepare(record: str) -> None:
    """Make the table before there are workers, which would all make it at once, or all die of what is wrong."""
    from masslib._util import records  # SQLAlchemy is slow to import

    engine = records.engine(record)
    try:
        records.create(engine)
    finally:
        engine.dispose()


def run(settings: Settings) -> None:
    """Serve until told to end.

    Raises:
        OSError: If the address cannot be listened at.
        ValueError: If the database for answers cannot be written.
        ModuleNotFoundError: If its driver is not installed.
    """
    if settings.record is not None:
        _prepare(settings.record)
    with tempfile.TemporaryDirectory(prefix="masslib-serving-") as shared:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared
        drift = Path(shared) / "drift"
        drift.mkdir()
        asyncio.run(Supervisor(settings, drift).run())


if __name__ == "__main__":
    run(loads(os.environ[ENVIRONMENT]))
