"""Which devices train: one door to the strategies of tf.distribute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

_KINDS = ("auto", "default", "mirrored")


def strategy(kind: str = "auto", *, devices: int | Sequence[str] | None = None) -> tf.distribute.Strategy:
    """Choose the devices to train on and return the tf.distribute strategy for them.

    Call it first, before any other TensorFlow operation, and build and compile the model in its scope.
    It prints what it picked.

    Args:
        kind: `"default"` trains on one device, the GPU if there is one. `"mirrored"` keeps a copy of the model on
            each of several devices of this machine and sums their gradients. `"auto"` is mirrored with two or more
            GPUs, else default.
        devices: For `"mirrored"`: how many devices, or their names such as `["GPU:0", "GPU:1"]`; by default all
            GPUs. On a machine without GPUs a number of logical CPU devices is made, two by default: they share the
            cores, so they show how replicas work and make nothing faster. `["CPU:0", "CPU:1"]` makes them anywhere.

    Returns:
        A `tf.distribute.Strategy`.

    Raises:
        ValueError: If `kind` is unknown, `devices` is given for another kind, or there are not as many GPUs.
        RuntimeError: If TensorFlow has already started, so that no logical devices can be made.

    Example:
        >>> import masslib
        >>> strategy = masslib.strategy("default")       # doctest: +ELLIPSIS
        masslib: default strategy, 1 replica on ...
        >>> strategy.num_replicas_in_sync
        1
    """
    import tensorflow as tf

    if kind not in _KINDS:
        raise ValueError(f"strategy({kind!r}): unknown kind; choose one of {', '.join(map(repr, _KINDS))}")
    if kind != "mirrored" and devices is not None:
        raise ValueError(f"strategy({kind!r}, devices={devices!r}): devices are chosen for 'mirrored' only")
    gpus = tf.config.list_physical_devices("GPU")
    if kind == "mirrored" or (kind == "auto" and len(gpus) > 1):
        # It would announce itself on stdout, where the user prints.
        tf.get_logger().setLevel("ERROR")
        chosen = tf.distribute.MirroredStrategy(_device_names(devices, len(gpus)))
        name = "mirrored"
    else:
        chosen, name = tf.distribute.get_strategy(), "default"
    replicas = chosen.num_replicas_in_sync
    print(f"masslib: {name} strategy, {replicas} replica{'s' if replicas > 1 else ''} on {'GPU' if gpus else 'CPU'}")
    return chosen


def _device_names(devices: int | Sequence[str] | None, gpus: int) -> list[str]:
    if devices is not None and not isinstance(devices, int):
        if not devices or not all(isinstance(name, str) for name in devices):
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
