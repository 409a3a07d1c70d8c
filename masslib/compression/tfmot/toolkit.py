"""TFMOT and tf_keras without traces in the environment and without noise."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from types import ModuleType

import tf_keras


def tfmot() -> ModuleType:
    """Import and return `tensorflow_model_optimization`, and leave the environment as it was.

    The import sets TF_USE_LEGACY_KERAS=1, which child processes would inherit: their `tf.keras` would be another.
    """
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    try:
        import tensorflow_model_optimization
    finally:
        if before is None:
            os.environ.pop("TF_USE_LEGACY_KERAS", None)
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = before
    return tensorflow_model_optimization


def reserve(names: Iterable[str]) -> None:
    """Let tf_keras give no layer one of these names any more.

    TFMOT splits separable convolutions into two layers with new names, and looks layers up by their names. tf_keras
    does not know those that were given, such as the names of Keras 3, and would give `conv2d` a second time.
    """
    names = set(names)
    for kind in (tf_keras.layers.Conv2D, tf_keras.layers.DepthwiseConv2D):
        prefix = kind(1, 1).name.rstrip("_0123456789")
        numbers = [int(name.removeprefix(f"{prefix}_")) for name in names if re.fullmatch(rf"{prefix}_\d+", name)]
        highest = max(numbers, default=0)
        while int("0" + kind(1, 1).name.removeprefix(prefix).removeprefix("_")) < highest:
            pass
