"""TensorFlow's oneDNN kernels for the CPU, and a hint where they were asked for too late.

TensorFlow has had them on board for years, but takes them by itself only on processors made for neural networks. On
another, convolutional networks train 1.3 times as fast with them (`benchmarks/kernels.py`). It reads the choice once,
while it is imported.
"""

import os
import warnings
from collections.abc import Mapping
from typing import Any

_VARIABLE = "TF_ENABLE_ONEDNN_OPTS"
# What TensorFlow looks for, as Linux names it
_MADE_FOR_NETWORKS = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}
_FEW = 4
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


def warn_if_fragile(layers: Mapping[str, Any]) -> None:
    """Name the layers whose gradient may end the process with these kernels.

    These are convolutions of one pixel that skip others, of an input with fewer than four channels, as in a shortcut
    past the first block of a residual network. The gradient of their kernel writes past the end of its memory (as seen
    with TensorFlow 2.21 on AVX2: SIGSEGV, and errors of malloc, with one to three channels in one and two dimensions).
    """
    names = [repr(name) for name, layer in layers.items() if _skips_pixels(layer)]
    if names and os.environ.get(_VARIABLE) == "1":
        warnings.warn(
            f"layers {', '.join(names)}: kernels of one pixel with strides over 1, on fewer than {_FEW} channels. "
            "Their gradient may end this process (SIGSEGV) in TensorFlow's oneDNN kernels: pool, with strides of 1, "
            f"instead, or set {_VARIABLE}=0 before Python starts",
            stacklevel=3,
        )


def _skips_pixels(layer: Any) -> bool:
    import keras

    if not isinstance(layer, (keras.layers.Conv1D, keras.layers.Conv2D)) or not layer.built:
        return False
    return max(layer.kernel_size) == 1 and max(layer.strides) > 1 and layer.kernel.shape[-2] < _FEW


def _processor_flags() -> set[str]:
    """The features of the processor; nothing where there is no Linux to ask."""
    from pathlib import Path

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
