"""TFMOT and tf_keras without traces in the environment and without noise."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what TensorFlow, tf_keras and TFMOT say about each other: the user can do nothing about it."""
    with quiet_logger(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def quiet_logger() -> Iterator[None]:
    """Silence TensorFlow's logger alone; warnings are shown as before.

    A filter does it. To lower the level and set it back would not work where two contexts overlap, as in two threads.
    """
    import tensorflow as tf

    logger, silence = tf.get_logger(), _Silence()
    logger.addFilter(silence)
    try:
        yield
    finally:
        logger.removeFilter(silence)


class _Silence(logging.Filter):
    """Lets only errors pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR
