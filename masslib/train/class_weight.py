"""The weights of classes as weights of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any

import keras
import tensorflow as tf


def weigher(class_weight: Mapping[int, float] | None) -> Callable[..., tuple] | None:
    """Make a function that gives the rows of a batch `(x, y)` the weight of their class; None if there are none.

    Labels are numbers of classes, of any sign, or one-hot in their last axis. Classes without a weight count once.

    Raises:
        TypeError: `class_weight` is no dict.
        ValueError: A key is no whole number, or there is none.
    """
    if class_weight is None:
        return None
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            f"class_weight is a {type(class_weight).__name__}; expected a dict of classes and their weights"
        )
    if not class_weight or not all(isinstance(label, Integral) for label in class_weight):
        raise ValueError(f"class_weight has the classes {list(class_weight)}; expected numbers of classes")
    classes = sorted(int(label) for label in class_weight)
    known = tf.constant(classes)
    weights = tf.constant([float(class_weight[label]) for label in classes])

    @tf.autograph.experimental.do_not_convert  # so that errors are raised as they are
    def weigh(*batch: Any) -> tuple:
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        if y is None or tf.nest.is_nested(y):
            raise ValueError(
                "class_weight is only supported for models with a single output; pass sample_weight, one for each"
            )
        found = _classes(y)
        place = tf.searchsorted(known, tf.reshape(found, [-1]))
        place = tf.reshape(tf.minimum(place, len(classes) - 1), tf.shape(found))
        rows = tf.where(tf.gather(known, place) == found, tf.gather(weights, place), 1.0)
        rows = tf.ensure_shape(rows, found.shape)
        return x, y, rows if weight is None else rows * tf.cast(weight, rows.dtype)

    return weigh


def _classes(y: tf.Tensor) -> tf.Tensor:
    """Read the numbers of the classes off labels: one-hot where the last axis is longer than one."""
    if (y.shape.rank or 1) > 1:
        one_hot = y.shape[-1] is None or y.shape[-1] > 1
        y = tf.argmax(y, axis=-1) if one_hot else tf.squeeze(y, axis=-1)
    return tf.cast(tf.round(y) if y.dtype.is_floating else y, tf.int32)
