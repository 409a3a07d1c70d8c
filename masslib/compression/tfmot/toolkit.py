"""TFMOT and tf_keras without traces in the environment and without noise."""

from __future__ import annotations

import os
from types import ModuleType


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
