"""TensorFlow's oneDNN kernels for the CPU, and a hint where they were asked for too late.

TensorFlow has had them on board for years, but takes them by itself only on processors made for neural networks. On
another, convolutional networks train 1.3 times as fast with them (`benchmarks/kernels.py`). It reads the choice once,
while it is imported.
"""

import os
import warnings

_VARIABLE = "TF_ENABLE_ONEDNN_OPTS"
# What TensorFlow looks for, as Linux names it
_MADE_FOR_NETWORKS = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}
_told = False


def warn_if_off() -> None:
    """Say once that convolutions train slower than need be: TensorFlow came first, on a processor where it matters."""
    global _told
    if _told or _VARIABLE in os.environ:  # `import masslib` sets it, unless TensorFlow has been imported already
        return
    _told = True
    import tensorflow as tf

    flags = _processor_flags()
    if flags and not flags & _MADE_FOR_NETWORKS and not tf.config.list_physical_devices("GPU"):
        warnings.warn(
            "TensorFlow was imported before masslib, so its faster CPU kernels (oneDNN) are off on this processor: "
            f"import masslib first, or set {_VARIABLE}=1 before Python starts (0 keeps them off without this warning)",
            stacklevel=3,
        )


def _processor_flags() -> set[str]:
    """The features of the processor; nothing where there is no Linux to ask."""
    from pathlib import Path

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
