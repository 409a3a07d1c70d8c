"""`launch`: run a function in several worker processes, on this machine or on an engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from masslib._util.checks import check_counts
from masslib.launcher.engines import Engine
from masslib.launcher.group import run
from masslib.launcher.remote import run_on
from masslib.launcher.tasks import local_tasks


def launch(
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    *,
    workers: int | tuple[int, int] = 2,
    servers: int = 0,
    max_restarts: int = 0,
    timeout: float | None = None,
    threads: int | None = None,
    gpus: int = 0,
    env: Mapping[str, str] | None = None,
    logs: str | os.PathLike[str] | None = None,
    on: Any = "local",
    elastic_timeout: float = 60.0,
) -> list[Any]:
    """Run a function in several worker processes, and return what it returns in each.

    It works from a notebook cell and from a script. The function is shipped by cloudpickle, so it may be defined in the
    cell; it builds everything itself, `masslib.strategy("multi_worker")` first. What rank 0 prints appears here as it
    comes; all that a worker writes is kept in its log file. One thing does not travel: AutoGraph does not find the
    source of a shipped function, so a `tf.function` with Python loops over tensors belongs in a module of its own.

    When a worker dies, raises, or stops answering, all are ended; while restarts are left, all are started again, and
    a `masslib.fit` with `checkpoint=` goes on from the last checkpoint. No process outlives the launching one.

    On an engine, Spark or Ray, each worker is a child of one of its tasks, and all else is as on this machine: the same
    function, the same weights to the bit, the same errors. masslib must be installed where the tasks run, and a
    checkpoint lie where rank 0 finds it after a restart, on shared storage if that may be another host.

    Args:
        fn: The function.
        args: Its arguments.
        workers: Processes that train. On an engine also the least and the most, as in `(2, 4)`: see `elastic_timeout`.
        servers: Parameter servers; with one or more, only a chief runs `fn`, under
            `masslib.strategy("parameter_server")`, and gives work to the workers.
        max_restarts: How often to start all again; after 1 s, 2 s, 4 s and so on. The workers find the number of
            restarts so far in `MASSLIB_ATTEMPT`.
        timeout: Time limit in seconds, restarts included; by default there is none. In any case the start is limited
            (to 60 s, see `masslib.strategy`), and a worker that does not respond for 6 s has failed.
        threads: Threads of TensorFlow in each worker; by default the cores are shared out. If the cores suffice, each
            worker is bound to its own; on an engine only where the workers of a host take all of its cores. On Spark
            the default is `spark.task.cpus`; Ray is asked for as many CPUs.
        gpus: GPUs for each worker, which sees no others.
        env: Variables for the environment of the workers. It is a copy of this one's, without what would make them
            part of some other cluster.
        logs: Folder for the log files, `worker-0.log` and so on; by default a new one among the temporary files.
        on: Where the workers run. `"local"`: on this machine. `"spark"` or a `SparkSession`: in the tasks of a barrier
            stage, all of which start at once or not at all; needs the extra `spark`. `"ray"`, or the address of a
            cluster such as `"10.0.0.1:6379"`: in a placement group, on as many hosts as there are (`STRICT_SPREAD`
            if they suffice for all workers, else `SPREAD`); needs the extra `ray`.
        elastic_timeout: With `workers=(least, most)`, how many seconds each start waits for room for the most; then it
            goes on with those that have room. When there is room for more again, the workers save a checkpoint, end,
            and start again with more, which is not counted as a restart. The global batches stay the same, so that
            the results do to rounding; `batch_size` must be divisible by every number of workers that there may be.

    Returns:
        One result per rank; with `servers`, that of the chief alone.

    Raises:
        TypeError: If `fn` or its arguments cannot be shipped, or `on` is none of these.
        ModuleNotFoundError: If the extra of an engine is not installed.
        ValueError: If a number is out of range, or `on` an engine that cannot run so many workers at once.
        WorkerError: If a worker failed and no restart is left, or the time is up. It begins with the traceback of the
            one that failed first.

    Example:
        >>> import masslib
        >>> def train(rate):
        ...     import os
        ...     return rate * len(os.environ["TF_CONFIG"]) > 0
        >>> masslib.launch(train, [0.1], workers=2)
        [True, True]
    """
    least, most = workers if isinstance(workers, tuple) and len(workers) == 2 else (workers, workers)
    check_counts(workers=(least, 1), servers=(servers, 0), max_restarts=(max_restarts, 0), gpus=(gpus, 0))
    if threads is not None:
        check_counts(threads=(threads, 1))
    check_counts(workers=(most, least))
    common = {"max_restarts": max_restarts, "timeout": timeout, "env": env, "logs": logs}
    if isinstance(on, str) and on == "local":
        if least != most:
            raise ValueError(f"workers={workers} on this machine: it loses none of its cores; pass one number")
        return run(fn, args, local_tasks(most, servers, threads, gpus), **common)
    if servers:
        raise ValueError(f"servers={servers} on {on!r}: parameter servers run with on='local' only")
    if not elastic_timeout >= 0:
        raise ValueError(f"elastic_timeout={elastic_timeout!r}: expected a number of seconds of at least 0")
    sizes = {"workers": (least, most), "threads": threads, "gpus": gpus, "elastic_timeout": elastic_timeout}
    return run_on(_engine(on), fn, args, **sizes, **common)


def _engine(on: Any) -> Engine:
    """The engine that `on` names."""
    if type(on).__module__.startswith("pyspark.") or on == "spark":
        from masslib.launcher.on_spark import Spark

        return Spark(None if isinstance(on, str) else on)
    if isinstance(on, str) and (on == "ray" or ":" in on):
        from masslib.launcher.on_ray import Ray

        return Ray(None if on == "ray" else on)
    raise TypeError(f"on={on!r}: expected 'local', 'spark', a SparkSession, 'ray' or the address of a Ray cluster")
