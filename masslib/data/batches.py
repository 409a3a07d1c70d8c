"""Reproducible batches: which rows a step sees is a function of (seed, epoch, step) alone.

An epoch is a permutation of row numbers cut into batches; the rows themselves are gathered a batch at a time.
That makes any step the start of a dataset, and costs a fraction of `shuffle`, which moves single rows.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from masslib._util.extras import needed_by
from masslib.data import augment as augmentation
from masslib.data.rows import Rows

if TYPE_CHECKING:
    import tensorflow as tf

_INT64 = np.iinfo(np.int64)
_WINDOW = 50  # batches that are sorted by length together: few enough to keep an epoch random


def batches(
    parts: tuple[Rows, Rows | None, Rows | None],
    batch_size: int,
    *,
    lengths: np.ndarray | None,
    shuffle: bool,
    seed: int,
    epoch: int,
    epochs: int,
    start: int,
    replicas: int,
    shard: tuple[int, int] | None,
    augment: Any,
) -> tf.data.Dataset:
    """See `Subset.batches`, whose arguments these are; the parts are inputs, labels and weights."""
    with needed_by("masslib.data.Subset.batches"):
        import tensorflow as tf

    rows = parts[0]
    batch_size, kept, steps = plan(len(rows), batch_size, replicas)
    rank, workers = _checked_shard(shard, replicas)
    epoch, epochs = whole("epoch", epoch, 0), whole("epochs", epochs, 0)
    start, seed = whole("start", start, 0, steps), whole("seed", seed, _INT64.min, _INT64.max)
    if kept < len(rows):
        warnings.warn(
            f"{len(rows) - kept} of {len(rows)} rows are left out of every epoch: the last global batch is "
            f"cut to a multiple of {replicas} replicas.",
            stacklevel=3,
        )
    total = max(steps * epochs - start, 0)
    if start == steps:  # the end of an epoch is the beginning of the next
        epoch, epochs, start = epoch + 1, max(epochs - 1, 0), 0

    def order(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        numbers = tf.range(len(rows))
        if shuffle:
            numbers = tf.random.experimental.stateless_shuffle(numbers, tf.stack([seed, number]), alg="philox")
            if lengths is not None:
                numbers = _grouped(numbers[:kept], lengths, batch_size, tf.stack([seed, number]))
        numbers = numbers[tf.where(number == epoch, start * batch_size, 0) : kept]
        return numbers, tf.fill(tf.shape(numbers), number)

    def cut(numbers: tf.Tensor, epoch_numbers: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensors((numbers, epoch_numbers)).rebatch(batch_size)

    # The first prefetch has the next permutation ready when an epoch ends.
    dataset = tf.data.Dataset.range(epoch, epoch + epochs).map(order).prefetch(1).flat_map(cut)
    load = _loader(parts, seed, augment)

    def load_part(numbers: tf.Tensor, epoch_numbers: tf.Tensor) -> Any:
        size = tf.shape(numbers)[0] // workers
        return load(numbers[rank * size : (rank + 1) * size], epoch_numbers)

    dataset = dataset.map(load_part if workers > 1 else load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.prefetch(tf.data.AUTOTUNE).apply(tf.data.experimental.assert_cardinality(total))
    options = tf.data.Options()
    # Its bookkeeping costs a fifth of the time, and there is nothing to tune: the map may use every thread.
    options.autotune.enabled = False
    return dataset.with_options(options)


def _grouped(numbers: tf.Tensor, lengths: np.ndarray, batch_size: int, seed: tf.Tensor) -> tf.Tensor:
    """An order in which every batch holds rows of similar length; the last one may be smaller and stays the last."""
    import tensorflow as tf

    windows = tf.cast(tf.range(len(numbers)) // (_WINDOW * batch_size), tf.int64)
    keys = windows * (int(lengths.max()) + 1) + tf.gather(tf.constant(lengths, tf.int64), numbers)
    full = len(numbers) // batch_size * batch_size
    numbers = tf.gather(numbers, tf.argsort(keys, stable=True))
    table = tf.reshape(numbers[:full], [-1, batch_size])
    order = tf.random.experimental.stateless_shuffle(tf.range(tf.shape(table)[0]), seed, alg="philox")
    return tf.concat([tf.reshape(tf.gather(table, order), [-1]), numbers[full:]], 0)


def plan(rows: int, batch_size: int, replicas: int) -> tuple[int, int, int]:
    """The checked batch size, how many rows an epoch uses, and in how many steps."""
    batch_size, replicas = whole("batch_size", batch_size, 1), whole("replicas", replicas, 1)
    if batch_size % replicas:
        below = batch_size // replicas * replicas
        near = f"{below} or {below + replicas}" if below else f"{replicas}"
        raise ValueError(
            f"batch_size is {batch_size}, which does not divide by {replicas} replicas; expected the global "
            f"batch to be a multiple of them. Use {near}."
        )
    kept = rows - rows % batch_size % replicas
    if not kept:
        raise ValueError(f"{rows} rows cannot feed {replicas} replicas; use more rows or fewer replicas.")
    return batch_size, kept, -(-kept // batch_size)


def _checked_shard(shard: tuple[int, int] | None, replicas: int) -> tuple[int, int]:
    if shard is None:
        return 0, 1
    if not isinstance(shard, tuple) or len(shard) != 2:
        raise TypeError(f"shard is {shard!r}, expected (rank, workers), such as (0, 2), or None.")
    workers = whole("shard[1], the workers,", shard[1], 1)
    if replicas % workers:
        raise ValueError(
            f"replicas is {replicas}, which does not divide by {workers} workers; expected the replicas of all workers "
            f"together, such as {workers}."
        )
    return whole("shard[0], the rank,", shard[0], 0, workers - 1), workers


def whole(name: str, value: int, least: int, most: int | None = None) -> int:
    """`value` as an int, or an error that says what `name` must be."""
    expected = f"an integer of {least} or more" if most is None else f"an integer from {least} to {most}"
    if least == 1 and most is None:
        expected = "a positive integer"
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} is {value!r}, expected {expected}.")
    if number < least or (most is not None and number > most):
        raise ValueError(f"{name} is {number}, expected {expected}.")
    return number


def _loader(
    parts: tuple[Rows, Rows | None, Rows | None], seed: int, augment: Any
) -> Callable[[tf.Tensor, tf.Tensor], Any]:
    """The graph function from row numbers and their epoch to `x`, `(x, y)` or `(x, y, sample_weight)`."""
    readers = [part.reader() for part in parts if part is not None]
    change = augmentation.of_rows(augment, parts[0], seed)

    def load(numbers: tf.Tensor, epoch_numbers: tf.Tensor) -> Any:
        x, *rest = (read(numbers) for read in readers)
        x = change(x, numbers, epoch_numbers[0])
        return (x, *rest) if rest or isinstance(x, tuple) else x  # as Keras packs it

    return load
