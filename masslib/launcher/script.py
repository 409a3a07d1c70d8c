"""`python -m masslib launch`: run a script in several workers, on this machine or as one worker of many machines."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from masslib.distribute.cluster import SECRET
from masslib.launcher._launch import launch
from masslib.launcher.errors import WorkerError
from masslib.launcher.group import run
from masslib.launcher.tasks import CORES, Task, tf_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--workers",
        type=_one_or_range,
        default=2,
        help="processes that train (default: 2); on an engine also the least and the most of them, as in 2:4",
    )
    parser.add_argument(
        "--elastic-timeout",
        type=float,
        default=60.0,
        help="with --workers LEAST:MOST, seconds that a start waits for room for the most (default: 60)",
    )
    parser.add_argument("--servers", type=int, default=0, help="parameter servers (default: none)")
    parser.add_argument("--hosts", help="instead of --workers: the addresses of all workers, as in a:5000,b:5000")
    parser.add_argument("--on", default="local", help="local (default), spark, ray, or the address of a Ray cluster")
    parser.add_argument("--index", type=int, help="with --hosts: which of them this machine is, from 0")
    parser.add_argument("--max-restarts", type=int, default=0, help="how often to start again after a failure")
    parser.add_argument("--threads", type=int, help="threads in each worker (default: the cores are shared out)")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs for each worker (default: 0)")
    parser.add_argument("--timeout", type=float, help="seconds for all of it (default: no limit)")
    parser.add_argument("--logs", help="folder for the log files (default: a new one among the temporary files)")
    parser.add_argument("script", help="the Python script that every worker runs")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")


def _one_or_range(text: str) -> int | tuple[int, int]:
    least, colon, most = text.partition(":")
    try:
        return (int(least), int(most)) if colon else int(least)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number, or the least and the most, as in 2:4") from None


def main(options: argparse.Namespace) -> int:
    """Run the script; 0 when all workers have come to its end."""
    if not Path(options.script).is_file():
        print(f"{options.script} is not a file; expected a Python script", file=sys.stderr)
        return 2
    arguments = [str(Path(options.script).resolve()), options.arguments]
    common = {"max_restarts": options.max_restarts, "timeout": options.timeout, "logs": options.logs}
    try:
        if options.hosts is None:
            if options.index is not None:
                raise ValueError(f"--index {options.index} without --hosts; name the addresses of all workers")
            names = "workers", "servers", "threads", "gpus", "elastic_timeout"
            sizes = {name: getattr(options, name) for name in names}
            launch(_run_script, arguments, on=options.on, **sizes, **common)
        else:
            if options.servers:
                raise ValueError(f"--servers {options.servers} with --hosts: expected workers only")
            if options.on != "local":
                raise ValueError(f"--on {options.on} with --hosts: expected one of them")
            run(_run_script, arguments, _one_of(options), **common)
    except (WorkerError, ValueError) as error:
        print(f"masslib: {error}", file=sys.stderr)
        return 1
    return 0


def _run_script(path: str, arguments: Sequence[str]) -> None:
    sys.argv = [path, *arguments]
    sys.path.insert(0, str(Path(path).parent))
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        if end.code not in (None, 0):
            raise


def _one_of(options: argparse.Namespace) -> Callable[[], list[Task]]:
    hosts = [address.strip() for address in options.hosts.split(",")]
    if options.index is None or not 0 <= options.index < len(hosts):
        raise ValueError(f"--index {options.index}: expected which of the {len(hosts)} hosts this is, from 0")
    cores = sorted(os.sched_getaffinity(0))
    environment = {
        "TF_CONFIG": tf_config({"worker": hosts}, "worker", options.index),
        "MASSLIB_THREADS": str(options.threads or len(cores)),
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(options.gpus))) or "-1",
        CORES: ",".join(map(str, cores)),
        SECRET: os.environ.get(SECRET, ""),
    }
    return lambda: [Task(f"worker {options.index}", environment)]
