"""Answers kept in SQLite or another database of SQLAlchemy, with what was asked, for the next training."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from masslib._util import records
from masslib._util.messages import first_line
from masslib.serving import logs, metrics
from masslib.serving.batching import Arrays
from masslib.serving.loaded import Loaded

_MOST_WAITING, _BATCH = 1024, 128


@dataclass(frozen=True)
class Found:
    """What is known of a recorded answer."""

    model: str
    classes: list[str] | None


class Recorder:
    """Writes answers from a thread of its own; when too many wait, they are dropped and counted.

    Args:
        where: A SQLite file, or a URL of SQLAlchemy.
    """

    def __init__(self, where: str):
        self._engine = records.engine(where)
        records.create(self._engine)
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(_MOST_WAITING)
        self._asking = ThreadPoolExecutor(1, "records")
        self._thread = threading.Thread(target=self._write, name="record", daemon=True)
        self._thread.start()

    def keep(self, request_id: str, loaded: Loaded, inputs: Arrays, outputs: Arrays, photo: bytes | None) -> None:
        """Keep the answer to every row; returns at once. Of several, the id ends in `/` and the number of the row."""
        rows = len(next(iter(inputs.values())))
        for k in range(rows):
            one, answer = ({name: x[k : k + 1] for name, x in arrays.items()} for arrays in (inputs, outputs))
            self._keep(request_id if rows == 1 else f"{request_id}/{k}", loaded, one, answer, photo)

    def _keep(self, request_id: str, loaded: Loaded, inputs: Arrays, outputs: Arrays, photo: bytes | None) -> None:
        first = next(iter(outputs.values()))
        best = int(first[0].argmax()) if first.ndim == 2 and loaded.labels else None
        row = {
            "request_id": request_id,
            "time": time.time(),
            "model": loaded.name,
            "version": loaded.version,
            "kind": "rows" if photo is None else "photo",
            "input": records.packed(inputs) if photo is None else photo,
            "preprocessing": None if photo is None else json.dumps(loaded.preprocessing),
            "output": json.dumps({name: array.tolist() for name, array in outputs.items()}),
            "classes": json.dumps(loaded.labels) if loaded.labels else None,
            "answer": None if best is None or loaded.labels is None else loaded.labels[best],
            "confidence": None if best is None else float(first[0, best]),
        }
        try:
            self._queue.put_nowait(row)
        except queue.Full:
            metrics.recorded(0, 1)

    async def find(self, request_id: str) -> Found | None:
        """The answer with this id."""
        return await self._ask(self._find, request_id)

    async def correct(self, request_id: str, label: str) -> None:
        """Keep what people say about it."""
        await self._ask(records.correct, self._engine, request_id, label)

    async def _ask(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._asking, function, *arguments)

    def _find(self, request_id: str) -> Found | None:
        # An answer may be corrected before it has been written.
        self._queue.join()
        row = records.find(self._engine, request_id)
        return None if row is None else Found(row["model"], json.loads(row["classes"]) if row["classes"] else None)

    def _write(self) -> None:
        ended = False
        while not ended:
            rows = [self._queue.get()]
            while len(rows) < _BATCH and not self._queue.empty():
                rows.append(self._queue.get())
            ended = None in rows
            kept = [row for row in rows if row is not None]
            try:
                if kept:
                    records.add(self._engine, kept)
                    metrics.recorded(len(kept), 0)
            except Exception as error:  # whatever a database raises; the service goes on
                metrics.recorded(0, len(kept))
                logs.event("record_failed", level="error", why=first_line(error), rows=len(kept))
            finally:
                for _ in rows:
                    self._queue.task_done()

    def close(self) -> None:
        """Write what waits, and end."""
        self._queue.put(None)
        self._thread.join(timeout=10)
        self._engine.dispose()
