"""The devices of this machine: which of them train, and in how many threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral

# The gradients of several workers meet in threads of their own: with a single one they wait for each other (a net
# with 3.2 million weights trained 373 images/s then, and 1452 with four).
_LEAST_INTER_OP = 4


def mirrored_names(devices: int | Sequence[str] | None, gpus: int) -> list[str]:
    """Return the names of the devices for a mirrored strategy; make logical CPU devices where they are needed."""
    if devices is not None and (isinstance(devices, bool) or not isinstance(devices, Integral)):
        if isinstance(devices, str | bool) or not devices or not all(isinstance(name, str) for name in devices):
            raise ValueError(f"devices={devices!r}: expected a number or names such as ['GPU:0', 'GPU:1']")
        if all(name.startswith("CPU:") for name in devices):
            _make_logical_cpus(1 + max(int(name.removeprefix("CPU:")) for name in devices))
        return list(devices)
    if gpus:
        count = gpus if devices is None else devices
        if not 1 <= count <= gpus:
            raise ValueError(f"devices={devices}: this machine has {gpus} GPU(s)")
        return [f"GPU:{index}" for index in range(count)]
    count = 2 if devices is None else devices
    if count < 1:
        raise ValueError(f"devices={devices}: expected at least one device")
    _make_logical_cpus(count)
    return [f"CPU:{index}" for index in range(count)]


def set_threads() -> None:
    """Give TensorFlow the threads that `masslib.launch` has planned for this process, or at least enough of them.

    The bits of a result depend on the number of threads, and collectives need several.

    Raises:
        RuntimeError: If TensorFlow has already started.
    """
    import tensorflow as tf

    intra = int(os.environ.get("MASSLIB_THREADS", 0)) or tf.config.threading.get_intra_op_parallelism_threads()
    inter = tf.config.threading.get_inter_op_parallelism_threads()
    try:
        tf.config.threading.set_intra_op_parallelism_threads(intra or len(os.sched_getaffinity(0)))
        tf.config.threading.set_inter_op_parallelism_threads(max(inter, _LEAST_INTER_OP))
    except RuntimeError:
        raise RuntimeError(
            "TensorFlow has already started in this process, so it cannot become a worker any more; call "
            "masslib.strategy(...) first, or, in a notebook, train in fresh processes by masslib.launch(...)"
        ) from None


def _make_logical_cpus(count: int) -> None:
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    made = tf.config.get_logical_device_configuration(cpu) or []
    if len(made) >= count:
        return
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError:
        raise RuntimeError(
            f"{count} logical CPU devices cannot be made any more, because TensorFlow has already started; "
            "restart the kernel and call masslib.strategy(...) first"
        ) from None
