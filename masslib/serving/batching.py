"""Dynamic batches: requests of one moment are answered by one call of the model, where measuring shows that it pays."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from masslib.serving.messages import HTTPError

Arrays = Mapping[str, np.ndarray]
INLINE_SECONDS = 0.004
"""A call that takes longer runs in a thread, so that other requests are read meanwhile."""


@dataclass(slots=True)
class Answer:
    """Outputs of some rows, and what they took (seconds)."""

    outputs: Arrays
    queue: float
    predict: float
    batch: int


@dataclass(slots=True)
class _Item:
    inputs: Arrays
    rows: int
    future: asyncio.Future
    since: float
    deadline: float


class Batcher:
    """Gathers the rows of requests and runs them.

    Args:
        run: Answers arrays `(n, ...)`, n being one of `sizes`.
        sizes: Rows that one call may have, ascending, with 1 or the only size of the file among them; larger batches
            are taken apart.
        seconds: What one call of the largest size takes.
        queue: Most rows that may wait.
        max_wait: Seconds that a request waits for others.
        done: Told of every batch: rows, seconds, inputs and outputs.
    """

    def __init__(
        self,
        run: Callable[[Arrays], Arrays],
        sizes: tuple[int, ...],
        seconds: float,
        *,
        queue: int,
        max_wait: float,
        done: Callable[[int, float, Arrays, Arrays], None],
    ):
        self._run, self._sizes, self._largest = run, sizes, sizes[-1]
        self._queue_limit, self._max_wait, self._done = queue, max_wait, done
        self._row_seconds = seconds / sizes[-1]
        self._loop = asyncio.get_running_loop()
        self._items: deque[_Item] = deque()
        self.waiting = 0
        self._scheduled = self._running = False
        self._thread = None if seconds <= INLINE_SECONDS else ThreadPoolExecutor(1, "predict")

    @property
    def inline(self) -> bool:
        """Whether the model runs in the thread of the event loop."""
        return self._thread is None

    def submit(self, inputs: Arrays, rows: int, timeout: float) -> asyncio.Future:
        """Hand in the rows of one request; the future holds an `Answer`.

        Raises:
            HTTPError: 503 if the queue is full.
        """
        if self.waiting + rows > self._queue_limit and self.waiting:
            raise busy("the queue is full", self.waiting * self._row_seconds)
        now = time.perf_counter()
        item = _Item(inputs, rows, self._loop.create_future(), now, now + timeout)
        self._items.append(item)
        self.waiting += rows
        if not self._scheduled and not self._running:
            self._schedule()
        return item.future

    def _schedule(self) -> None:
        self._scheduled = True
        if self._max_wait and self.waiting < self._largest:
            self._loop.call_later(self._max_wait, self._flush)
        else:
            self._loop.call_soon(self._gather, 0)

    def _gather(self, seen: int) -> None:
        """Take the batch as soon as a pass of the loop has brought no more rows: what is being decoded goes along."""
        if seen < self.waiting < self._largest:
            self._loop.call_soon(self._gather, self.waiting)
        else:
            self._flush()

    def _take(self, now: float) -> list[_Item]:
        """The next requests that fit into one batch; those that nobody waits for any more are dropped."""
        taken: list[_Item] = []
        rows = 0
        while self._items and (not taken or rows + self._items[0].rows <= self._largest):
            item = self._items.popleft()
            self.waiting -= item.rows
            if item.future.done():
                continue
            if now > item.deadline:
                item.future.set_exception(busy("no answer in time", self.waiting * self._row_seconds))
                continue
            taken.append(item)
            rows += item.rows
        return taken

    def _flush(self) -> None:
        self._scheduled = False
        start = time.perf_counter()
        items = self._take(start)
        if items:
            if self._thread is None:
                try:
                    outputs = self._compute(items)
                except Exception as error:
                    self._failed(items, error)
                else:
                    self._answer(items, outputs, start)
            else:
                self._running = True
                future = self._loop.run_in_executor(self._thread, self._compute, items)
                future.add_done_callback(lambda done: self._ran(items, done, start))
                return
        if self._items:
            self._schedule()

    def _ran(self, items: list[_Item], done: asyncio.Future, start: float) -> None:
        self._running = False
        if (error := done.exception()) is not None:
            self._failed(items, error)
        else:
            self._answer(items, done.result(), start)
        if self._items and not self._scheduled:
            self._schedule()

    def _compute(self, items: list[_Item]) -> tuple[Arrays, Arrays]:
        """Inputs and outputs of all rows."""
        if len(items) == 1:
            inputs = items[0].inputs
        else:
            inputs = {name: np.concatenate([item.inputs[name] for item in items]) for name in items[0].inputs}
        rows = sum(item.rows for item in items)
        parts, start = [], 0
        while start < rows:
            size = next((size for size in reversed(self._sizes) if size <= rows - start), self._sizes[0])
            if size >= rows:
                return inputs, self._run(inputs)
            parts.append(self._run({name: array[start : start + size] for name, array in inputs.items()}))
            start += size
        return inputs, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _answer(self, items: list[_Item], computed: tuple[Arrays, Arrays], start: float) -> None:
        inputs, outputs = computed
        took, at = time.perf_counter() - start, 0
        rows = sum(item.rows for item in items)
        for item in items:
            if not item.future.done():
                part = outputs if len(items) == 1 else {k: y[at : at + item.rows] for k, y in outputs.items()}
                item.future.set_result(Answer(part, start - item.since, took, rows))
            at += item.rows
        self._done(rows, took, inputs, outputs)

    def _failed(self, items: list[_Item], error: BaseException) -> None:
        """Only the request whose rows the model refuses fails: the others are tried alone."""
        for item in items:
            if item.future.done():
                continue
            if len(items) == 1:
                item.future.set_exception(error)
                continue
            try:
                start = time.perf_counter()
                self._answer([item], self._compute([item]), start)
            except Exception as own:
                item.future.set_exception(own)


def busy(why: str, seconds: float) -> HTTPError:
    """503 with the seconds after which to come back."""
    return HTTPError(503, f"busy: {why}; come back later", **{"retry-after": str(max(1, round(seconds)))})
