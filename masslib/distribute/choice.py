"""`strategy`: from a word to a strategy of tf.distribute that is ready to train."""

from __future__ import annotations

import hashlib
import os
import platform
import signal
import sys
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from masslib._util.extras import needed_by
from masslib._util.log import logger
from masslib.distribute import cluster, rendezvous
from masslib.distribute.devices import mirrored_names, set_threads

if TYPE_CHECKING:
    import tensorflow as tf

_KINDS = ("auto", "default", "mirrored", "multi_worker", "parameter_server")
_COMMUNICATIONS = ("auto", "ring", "nccl")
_START_SECONDS = 60.0


@needed_by("masslib.strategy")
def strategy(
    kind: str = "auto",
    *,
    devices: int | Sequence[str] | None = None,
    communication: str = "auto",
    timeout: float = _START_SECONDS,
) -> tf.distribute.Strategy:
    """Choose the devices to train on and return the tf.distribute strategy for them.

    Call it first, before any other TensorFlow operation, and build and compile the model in its scope.
    It logs what it picked, at the level INFO of `logging.getLogger("masslib")`.

    Args:
        kind: `"default"` trains on one device, the GPU if there is one. `"mirrored"` keeps a copy of the model on
            each of several devices of this machine and sums their gradients. `"multi_worker"` does so over several
            processes, on one machine or many. With `"parameter_server"` workers send their gradients to processes that
            hold the model, each as soon as it has them. `"auto"` is multi_worker in a process that `masslib.launch`
            or TF_CONFIG has made a worker, mirrored with two or more GPUs, else default.
        devices: For `"mirrored"`: how many devices, or their names such as `["GPU:0", "GPU:1"]`; by default all
            GPUs. On a machine without GPUs a number of logical CPU devices is made, two by default: they share the
            cores, so they show how replicas work and make nothing faster. `["CPU:0", "CPU:1"]` makes them anywhere.
        communication: For `"multi_worker"`: how gradients are summed, `"ring"`, `"nccl"` (between NVIDIA GPUs) or what
            TensorFlow thinks best.
        timeout: For the two with several processes: how long to wait for all of them to come, in s.

    Returns:
        A `tf.distribute.Strategy`. Where this process is a server of a parameter-server cluster, it serves until the
        chief has ended, and the process ends with it.

    Raises:
        ValueError: If an argument is unknown or belongs to another kind, there are not as many GPUs, or the cluster is
            missing, malformed, or not the same for all workers.
        RuntimeError: If TensorFlow has already started, so that no devices or workers can be made; or a process of the
            cluster has not come in time.

    Example:
        >>> import masslib
        >>> strategy = masslib.strategy("default")  # logs "default strategy, 1 replica on CPU"
        >>> strategy.num_replicas_in_sync
        1
    """
    import tensorflow as tf

    from masslib._util.quiet import quiet_logger

    _check(kind, devices, communication, timeout)
    gpus = tf.config.list_physical_devices("GPU")
    if kind == "auto":
        kind = _best(len(gpus))
    with quiet_logger():  # in a notebook TensorFlow would announce each of them on stdout
        if kind == "default":
            chosen = tf.distribute.get_strategy()
        elif kind == "mirrored":
            chosen = _mirrored(tuple(mirrored_names(devices, len(gpus))))
        elif kind == "multi_worker":
            chosen = _multi_worker(communication, timeout)
        else:
            chosen = _parameter_server(timeout)
    _announce(kind, chosen, "GPU" if gpus else "CPU")
    return chosen


def _check(kind: str, devices: int | Sequence[str] | None, communication: str, timeout: float) -> None:
    if kind not in _KINDS:
        raise ValueError(f"strategy({kind!r}): unknown kind; choose one of {', '.join(map(repr, _KINDS))}")
    if kind != "mirrored" and devices is not None:
        raise ValueError(f"strategy({kind!r}, devices={devices!r}): devices are chosen for 'mirrored' only")
    if communication not in _COMMUNICATIONS:
        raise ValueError(f"communication={communication!r}: choose one of {', '.join(map(repr, _COMMUNICATIONS))}")
    if communication != "auto" and kind not in ("auto", "multi_worker"):
        raise ValueError(
            f"strategy({kind!r}, communication={communication!r}): communication is chosen for 'multi_worker' only"
        )
    if not timeout > 0:
        raise ValueError(f"timeout={timeout!r}: expected a positive number of seconds")


def _best(gpus: int) -> str:
    if os.environ.get("TF_CONFIG") or os.environ.get("MASSLIB_HOSTS"):
        found = cluster.from_environment()
        return "parameter_server" if "ps" in found.tasks else "multi_worker"
    return "mirrored" if gpus > 1 else "default"


@cache
def _mirrored(names: tuple[str, ...]) -> tf.distribute.Strategy:
    """Make one strategy for the same devices: each counts its collectives from 100 on, and two would mix them up."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(list(names))


def _multi_worker(communication: str, timeout: float) -> tf.distribute.Strategy:
    import tensorflow as tf

    found = cluster.from_environment()
    if found.kind == "ps":
        raise ValueError(
            f"{found.source}: this process is a parameter server; use masslib.strategy('parameter_server')"
        )
    set_threads()
    rendezvous.meet(found, _about_this_process(), timeout)
    implementation = getattr(tf.distribute.experimental.CommunicationImplementation, communication.upper())
    handler = signal.getsignal(signal.SIGTERM)
    chosen = tf.distribute.MultiWorkerMirroredStrategy(
        found.resolver(), tf.distribute.experimental.CommunicationOptions(implementation=implementation)
    )
    if threading.current_thread() is threading.main_thread():
        # TensorFlow's preemption notifier, which has just started, has taken SIGTERM and would do nothing about it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if handler is None else handler)
    return chosen


def _parameter_server(timeout: float) -> tf.distribute.Strategy:
    import tensorflow as tf

    from masslib._util.quiet import root_logger_kept

    found = cluster.from_environment()
    if not {"chief", "worker", "ps"} <= found.tasks.keys():
        raise ValueError(
            f"{found.source}: the cluster has the tasks {sorted(found.tasks)}; a parameter-server cluster has a chief, "
            "workers and at least one ps, as masslib.launch(..., servers=1) makes it"
        )
    set_threads()
    if found.kind != "chief":
        cluster.check_ports(found)
        server = tf.distribute.Server(found.resolver().cluster_spec(), job_name=found.kind, task_index=found.index)
        logger.info("%s %d serves at %s", found.kind, found.index, found.address)
        server.join()
    rendezvous.await_servers(found, timeout)
    with root_logger_kept():
        return tf.distribute.ParameterServerStrategy(found.resolver())


def _about_this_process() -> dict[str, str]:
    """What all workers must have in common: packages and the script."""
    import keras
    import tensorflow as tf

    from masslib import __version__

    script = Path(getattr(sys.modules["__main__"], "__file__", None) or os.devnull)
    return {
        "Python": platform.python_version(),
        "masslib": __version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "SHA-256 of the script": hashlib.sha256(script.read_bytes()).hexdigest()[:12] if script.is_file() else "",
    }


def _announce(kind: str, chosen: tf.distribute.Strategy, device: str) -> None:
    replicas = chosen.num_replicas_in_sync
    text = f"{kind} strategy, {_counted(replicas, 'replica')} on {device}"
    if kind == "multi_worker":
        text += f", worker {chosen.cluster_resolver.task_id}"
    if kind == "parameter_server":
        tasks = cluster.from_environment().tasks
        workers, servers = (_counted(len(tasks[job]), name) for job, name in (("worker", "worker"), ("ps", "server")))
        text = f"{kind} strategy, {workers} and {servers}"
    logger.info(text)


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'s' if number != 1 else ''}"
