"""Rows of a batch, whatever holds them: dense, ragged and sparse tensors."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def number_of_rows(batch: Any) -> tf.Tensor:
    """Count the rows of a batch, or of a tensor."""
    tensor = tf.nest.flatten(batch)[0]
    if isinstance(tensor, tf.SparseTensor):
        return tf.cast(tensor.dense_shape[0], tf.int32)
    return tensor.nrows(tf.int32) if isinstance(tensor, tf.RaggedTensor) else tf.shape(tensor)[0]


def rows_between(tensor: Any, start: Any, stop: Any) -> Any:
    """Cut the rows from `start` on, without `stop`, out of a tensor; nothing else of its shape is forgotten."""
    shape = [None, *tensor.shape[1:]]
    if isinstance(tensor, tf.SparseTensor):
        first, whole = tf.cast(start, tf.int64), tensor.dense_shape
        start = tf.concat([[first], tf.zeros_like(whole[1:])], 0)
        rows = tf.sparse.slice(tensor, start, tf.concat([[tf.cast(stop, tf.int64) - first], whole[1:]], 0))
        rows.set_shape(shape)
        return rows
    rows = tensor[start:stop]
    return rows if isinstance(tensor, tf.RaggedTensor) else tf.ensure_shape(rows, shape)


def repeated(tensor: Any, times: int) -> Any:
    """Put a tensor under itself, so many times in all."""
    if isinstance(tensor, tf.SparseTensor):
        return tf.sparse.concat(0, [tensor] * times)
    return tf.concat([tensor] * times, 0)
