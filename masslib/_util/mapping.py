"""An engine as a way to map: a function runs over jobs here, in a pool, on Spark or on Ray."""

from __future__ import annotations

import gc
import os
import pickle
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from masslib._util.extras import needed_by

Job, Result = TypeVar("Job"), TypeVar("Result")


def mapped(fn: Callable[[Job], Result], jobs: Sequence[Job], on: Any = None) -> list[Result]:
    """Apply a function to jobs, wherever they are to run; the results come in the order of the jobs.

    An engine may run a job again, or twice at the same time.

    Args:
        fn: The function, which an engine sends to other processes: one of a module.
        jobs: Its arguments, sent along.
        on: None: here, one after another. A `concurrent.futures.Executor`. A `SparkSession`, with a task for each job.
            `"ray"` or the address of a Ray cluster, likewise. Or whatever maps: `on(fn, jobs)`.

    Raises:
        TypeError: If `on` is none of these.

    Example:
        >>> mapped(abs, [-1, 2]), mapped(abs, [-1, 2], on=map)
        ([1, 2], [1, 2])
    """
    if on is None:
        return [fn(job) for job in jobs]
    if hasattr(on, "sparkContext"):
        return on.sparkContext.parallelize(jobs, max(1, len(jobs))).map(partial(_in_spark, fn)).collect()
    if isinstance(on, str) and (on == "ray" or ":" in on):
        ray = _ray_at(on)
        task = ray.remote(max_retries=3)(fn)
        return ray.get([task.remote(job) for job in jobs])
    if callable(getattr(on, "submit", None)):
        return list(on.map(fn, jobs))
    if callable(on):
        return list(on(fn, jobs))
    raise TypeError(f"on={on!r}: expected None, an Executor, a SparkSession, 'ray', an address of Ray, or a map")


def called(calls: Sequence[Callable[[], Result]], on: Any) -> list[Result]:
    """Call functions wherever they are to run, as `mapped`; they travel by value, those of a notebook as well.

    Example:
        >>> called([lambda: 1, lambda: 2], on=map)
        [1, 2]
    """
    with needed_by(f"on={on!r}"):
        import cloudpickle
    return mapped(_call, [cloudpickle.dumps(call) for call in calls], on)


def slots(on: Any) -> int:
    """How many jobs run at once: what a cluster says, and for anything else the cores of this machine.

    Example:
        >>> slots(map) == os.cpu_count()
        True
    """
    if hasattr(on, "sparkContext"):
        context = on.sparkContext
        return max(1, context.defaultParallelism // int(context.getConf().get("spark.task.cpus", "1")))
    if isinstance(on, str):
        return max(1, int(_ray_at(on).cluster_resources().get("CPU", 1)))
    return os.cpu_count() or 1


def _in_spark(fn: Callable[[Job], Result], job: Job) -> Result:
    """Run a job in a Python process of Spark, which collects garbage after every task.

    That takes 0.3 s in a process that has imported TensorFlow, however little the task did, unless what modules hold
    is left out. Source: `gc.collect()` in pyspark/daemon.py.
    """
    modules = len(sys.modules)
    result = fn(job)
    if len(sys.modules) > modules or not gc.get_freeze_count():
        gc.collect()  # or garbage that is there would never go
        gc.freeze()
    return result


def _call(pickled: bytes) -> Any:
    return pickle.loads(pickled)()


def _ray_at(on: str) -> Any:
    """Ray, connected to the cluster at an address; to the one of the environment, or a new one, for `"ray"`."""
    with needed_by("on='ray'"):
        import ray
    if not ray.is_initialized():
        ray.init(address=None if on == "ray" else on, log_to_driver=False)
    return ray
