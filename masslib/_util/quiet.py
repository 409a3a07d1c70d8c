"""TensorFlow, tf_keras and TFMOT without noise."""

from __future__ import annotations

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
    """Silence TensorFlow's logger alone; warnings are shown as before."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)
