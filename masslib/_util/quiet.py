"""TensorFlow, tf_keras and TFMOT without noise."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf


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
    logger, silence = tf.get_logger(), _Silence()
    logger.addFilter(silence)
    try:
        yield
    finally:
        logger.removeFilter(silence)


@contextmanager
def root_logger_kept() -> Iterator[None]:
    """Take away the handler that absl gives the root logger when it logs for the first time.

    Who logs would otherwise take it for that of an application, which decides what is shown.
    """
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        yield
    finally:
        for handler in set(root.handlers) - set(before):
            if type(handler).__module__.startswith("absl."):
                root.removeHandler(handler)


class _Silence(logging.Filter):
    """Lets only errors pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR
