"""Workers in the tasks of a Spark barrier stage, which start all at once.

Source: https://spark.apache.org/docs/latest/api/python/reference/api/pyspark.RDD.barrier.html
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from masslib._util.extras import needed_by
from masslib.launcher.engines import Member

with needed_by("launch(on='spark')"):
    from pyspark import BarrierTaskContext, InheritableThread
    from pyspark.sql import SparkSession

_STOP_SECONDS, _POLL_SECONDS = 10.0, 0.2


class Spark:
    """A Spark session; by default the one that is active, or a new one."""

    name = "Spark"

    def __init__(self, session: SparkSession | None = None):
        session = session or SparkSession.builder.getOrCreate()
        if not hasattr(session, "sparkContext"):
            raise TypeError("on is a session of Spark Connect, which has no barrier stages; expected a SparkSession")
        self._context = session.sparkContext
        local = self._context.master.startswith("local")
        self.host = "127.0.0.1" if local else self._context.getConf().get("spark.driver.host")

    @property
    def _cores(self) -> int:
        """Cores of each task."""
        return int(self._context.getConf().get("spark.task.cpus", "1"))

    def _slots(self) -> int | None:
        """How many tasks run at once; None if that cannot be known, for it is what is asked for."""
        settings = self._context.getConf()
        fixed = settings.get("spark.dynamicAllocation.enabled", "false") == "false"
        if not fixed or settings.get("spark.default.parallelism") is not None:
            return None
        return self._context.defaultParallelism // self._cores  # the cores of the executors, at least 2

    def threads(self, least: int, most: int, threads: int | None) -> int:
        """As many as each task has cores, unless told otherwise."""
        slots = self._slots()
        if slots is not None and least > slots:
            raise ValueError(
                f"workers={least}, but Spark has slots for {slots} tasks at once ({self._cores} cores each); launch "
                "fewer workers, or start Spark with more executors"
            )
        if slots is None and least < most:
            raise ValueError(
                f"workers=({least}, {most}): with spark.dynamicAllocation.enabled or spark.default.parallelism Spark "
                "does not tell how many tasks it has room for; set neither, or pass one number"
            )
        return threads or self._cores

    def room(self, most: int, threads: int, gpus: int, seconds: float) -> int:
        """Wait until the executors that are there suffice."""
        end = time.monotonic() + seconds
        while (slots := self._slots()) is not None and slots < most and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
        return most if slots is None else min(slots, most)

    @contextlib.contextmanager
    def looking(self, workers: int, threads: int, gpus: int) -> Iterator[Callable[[], bool]]:
        """Compare the slots of the executors."""
        yield lambda: (self._slots() or 0) > workers

    def start(self, member: Member, workers: int, threads: int, gpus: int) -> _Job:
        """Start a barrier stage with a task for each worker."""
        return _Job(self._context, member, workers)


class _Job:
    """A barrier stage; this process waits for it in a thread."""

    def __init__(self, context: Any, member: Member, workers: int):
        self._context, self._group = context, f"masslib-{uuid.uuid4().hex}"
        self._results: dict[int, bytes | None] = {}
        self._problem: str | None = None
        self._thread = InheritableThread(target=self._run, args=(member, workers), daemon=True)
        self._thread.start()

    def _run(self, member: Member, workers: int) -> None:
        def task(_: Iterator[int]) -> Iterator[tuple[int, bytes | None]]:
            here = BarrierTaskContext.get()
            given = here.resources().get("gpu")
            yield here.partitionId(), member(here.partitionId(), ",".join(given.addresses) if given else "")

        self._context.setJobGroup(self._group, f"masslib.launch: {workers} workers", interruptOnCancel=True)
        stage = self._context.parallelize(range(workers), workers).barrier()
        try:
            self._results = dict(stage.mapPartitions(task).collect())
        except Exception as error:  # of the JVM, of Python, of the network: what it says goes into the message
            told = "\n".join(line for line in str(error).splitlines() if not line.startswith("\tat "))
            self._problem = f"{told}\nTasks run the Python that PYSPARK_PYTHON names, which needs masslib[train], too."

    def problem(self) -> str | None:
        """The error of the stage."""
        return self._problem

    def results(self) -> list[bytes | None]:
        """What the tasks have returned, by rank."""
        self._thread.join()
        return [self._results[rank] for rank in sorted(self._results)]

    def stop(self) -> None:
        """Cancel the stage."""
        self._thread.join(_STOP_SECONDS)  # without its hub every task ends by itself
        if self._thread.is_alive():
            self._context.cancelJobGroup(self._group)
            self._thread.join(_STOP_SECONDS)
