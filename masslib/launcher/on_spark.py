"""Workers in the tasks of a Spark barrier stage, which start all at once.

Source: https://spark.apache.org/docs/latest/api/python/reference/api/pyspark.RDD.barrier.html
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from masslib._util.extras import needed_by
from masslib.launcher.engines import Member

with needed_by("launch(on='spark')"):
    from pyspark import BarrierTaskContext, InheritableThread
    from pyspark.sql import SparkSession

_STOP_SECONDS = 10.0


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

    def threads(self, workers: int, threads: int | None) -> int:
        """As many as each task has cores, unless told otherwise."""
        settings = self._context.getConf()
        cores = int(settings.get("spark.task.cpus", "1"))
        fixed = settings.get("spark.dynamicAllocation.enabled", "false") == "false"
        slots = self._context.defaultParallelism // cores
        if fixed and settings.get("spark.default.parallelism") is None and workers > slots:
            raise ValueError(
                f"workers={workers}, but Spark has slots for {slots} tasks at once ({cores} cores each); launch fewer "
                "workers, or start Spark with more executors"
            )
        return threads or cores

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
