"""Batches that a user's own code makes: `keras.utils.PyDataset`, generators, and what can be read again and again."""

from __future__ import annotations

import itertools
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import GeneratorType
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Stream:
    """Batches that are not ours to cut: every process reads all of them.

    Attributes:
        kind: What it is, for messages.
        open: Returns the batches of a pass over the data, from one of them on.
        first: A batch, where one had to be read to know its form.
        batches: Batches in a pass; None where that is not known or there is no end.
        counted: Whether `batches` is sure, and not just what the user's code says.
        endless: Whether a pass has no end.
        seekable: Whether a pass can be begun in its middle, and gives the same batches in every process.
        once: Whether there is one pass only.
        begin: Is called before every epoch.
        end: Is called after every epoch.
        length: Returns how many batches there were, once the last of a single pass was read; before that, None.
    """

    kind: str
    open: Callable[[int, int], tf.data.Dataset]
    first: Any = None
    batches: int | None = None
    counted: bool = False
    endless: bool = False
    seekable: bool = True
    once: bool = False
    begin: Callable[[], None] = lambda: None
    end: Callable[[], None] = lambda: None
    length: Callable[[], int | None] = lambda: None

    def changed(self, change: Callable[[tf.data.Dataset], tf.data.Dataset]) -> Stream:
        """The same batches, changed."""
        return replace(self, open=lambda number, start: change(self.open(number, start)))


def stream(x: Any, *, shuffle: bool, seed: int) -> Stream | None:
    """Make a stream of what yields batches, or return None for anything else, such as arrays."""
    if isinstance(x, tf.data.Dataset):
        return _of_dataset(x)
    if isinstance(x, keras.utils.PyDataset):
        return _of_py_dataset(x, shuffle, seed)
    if isinstance(x, GeneratorType):
        return _of_generator(x)
    if isinstance(x, Iterable) and not (
        isinstance(x, str | bytes | dict | list | tuple | tf.RaggedTensor) or hasattr(x, "__array__")
    ):
        return _of_loader(x)
    return None


def of_slices(rows: Any, batch_size: int, *, shuffle: bool, seed: int) -> Stream:
    """Cut ragged and sparse tensors into batches, in an order that the seed and the number of the pass decide."""
    slices = tf.data.Dataset.from_tensor_slices(rows)
    count = int(slices.cardinality())

    def open_at(number: int, start: int) -> tf.data.Dataset:
        ordered = slices.shuffle(count, seed=hash((seed, number)) % 2**31) if shuffle else slices
        batches = ordered.batch(batch_size)
        return batches.skip(start) if start else batches

    return Stream("tensor", open_at, batches=-(-count // batch_size), counted=True)


def _of_dataset(dataset: tf.data.Dataset) -> Stream:
    cardinality = int(dataset.cardinality())
    known = cardinality >= 0
    return Stream(
        kind="tf.data.Dataset",
        open=lambda number, start: dataset.skip(start) if start else dataset,
        batches=cardinality if known else None,
        counted=known,
        endless=cardinality == tf.data.INFINITE_CARDINALITY,
    )


def _of_py_dataset(data: keras.utils.PyDataset, shuffle: bool, seed: int) -> Stream:
    """Read the batches of a `PyDataset` in an order that the seed and the number of the pass decide."""
    count = data.num_batches
    if count == 0:
        raise ValueError(f"the {type(data).__name__} has no batches; expected at least one")
    if data.use_multiprocessing:
        warnings.warn(
            f"the {type(data).__name__} asks for processes, which may hang beside TensorFlow; its batches are read by "
            f"{data.workers} threads",
            stacklevel=5,
        )
    first = [_batch(data[number]) for number in range(min(count or 2, 2))]
    form = _form(first)

    def open_at(number: int, start: int) -> tf.data.Dataset:
        def read() -> Iterator[Any]:
            if count is None:
                places: Iterable[int] = itertools.count(start)
            else:
                shuffled = np.random.default_rng([abs(seed), number]).permutation(count) if shuffle else range(count)
                places = [int(place) for place in shuffled[start:]]
            return _converted(map(_batch, _in_order(data, places)), form)

        return tf.data.Dataset.from_generator(read, output_signature=form).prefetch(tf.data.AUTOTUNE)

    return Stream(
        kind="PyDataset",
        open=open_at,
        first=first[0],
        batches=count,
        endless=count is None,
        begin=data.on_epoch_begin,
        end=data.on_epoch_end,
    )


def _in_order(data: keras.utils.PyDataset, places: Iterable[int]) -> Iterator[Any]:
    """Read some batches, several at a time where the data asks for it."""
    if data.workers < 2:
        yield from map(data.__getitem__, places)
        return
    with ThreadPoolExecutor(data.workers) as pool:
        ahead: deque[Future] = deque()
        for place in places:
            ahead.append(pool.submit(data.__getitem__, place))
            if len(ahead) > max(data.max_queue_size, data.workers):
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _of_generator(generator: Iterator[Any]) -> Stream:
    first = [_batch(batch) for batch in itertools.islice(generator, 2)]
    if not first:
        raise ValueError("the generator yields no batch; expected at least one")
    form, lengths = _form(first), []

    def read() -> Iterator[Any]:
        # One batch ahead, so that the end is known as soon as the last batch is there.
        batches = itertools.chain(first, map(_batch, generator))
        count, current = 1, next(batches)
        for following in batches:
            yield current
            count, current = count + 1, following
        lengths.append(count)
        yield current

    dataset = tf.data.Dataset.from_generator(lambda: _converted(read(), form), output_signature=form)
    return Stream(
        kind="generator",
        open=lambda number, start: dataset.prefetch(tf.data.AUTOTUNE),
        first=first[0],
        seekable=False,
        once=True,
        length=lambda: lengths[0] if lengths else None,
    )


def _of_loader(loader: Iterable[Any]) -> Stream:
    """Read an object that can be read again and again, such as PyTorch's `DataLoader`."""
    first = [_batch(batch) for batch in itertools.islice(iter(loader), 2)]
    form = _form(first)
    try:
        count = len(loader)  # type: ignore[arg-type]
    except TypeError:  # that of a loader may ask a dataset that has no length
        count = None
    dataset = tf.data.Dataset.from_generator(lambda: _converted(map(_batch, loader), form), output_signature=form)
    return Stream(
        kind=type(loader).__name__,
        open=lambda number, start: dataset.prefetch(tf.data.AUTOTUNE),
        first=first[0],
        batches=count,
        seekable=False,
    )


def _batch(batch: Any) -> Any:
    """Return a batch as Keras packs it, of what TensorFlow knows."""
    if isinstance(batch, list):
        batch = tuple(batch)
    packed = keras.utils.pack_x_y_sample_weight(*keras.utils.unpack_x_y_sample_weight(batch))
    packed = packed if isinstance(packed, tuple | dict) else (packed,)
    return tf.nest.map_structure(_tensor, keras.tree.lists_to_tuples(packed))


def _tensor(value: Any) -> Any:
    if isinstance(value, tf.Tensor | tf.RaggedTensor | tf.SparseTensor):
        return value
    if hasattr(value, "tocoo"):  # of SciPy
        value = value.tocoo()
        order = np.lexsort((value.col, value.row))
        places = np.stack([value.row, value.col], axis=-1)[order].astype("int64")
        return tf.SparseTensor(places, value.data[order], value.shape)
    return np.asarray(value.cpu() if hasattr(value, "cpu") else value)


def _form(batches: Sequence[Any]) -> Any:
    """Describe batches: sizes in which they differ, and the number of their rows, are left open."""
    if not batches:
        raise ValueError("the data yields no batch; expected at least one")

    def common(*tensors: Any) -> tf.TypeSpec:
        spec = tf.type_spec_from_value(tensors[0])
        shape = spec.shape
        if not shape.rank:
            raise ValueError(f"the data yields a single value, {tensors[0]!r}; expected arrays (rows, ...)")
        for tensor in tensors[1:]:
            shape = shape.most_specific_compatible_shape(tensor.shape)
        shape = tf.TensorShape([None, *shape[1:]]) if shape.rank else shape
        if isinstance(spec, tf.RaggedTensorSpec):
            return tf.RaggedTensorSpec(shape, spec.dtype, spec.ragged_rank, spec.row_splits_dtype)
        return type(spec)(shape, spec.dtype)

    return tf.nest.map_structure(common, *batches)


def _converted(batches: Iterable[Any], form: Any) -> Iterator[Any]:
    """Yield batches, and say which of them has another form than the first two."""
    for number, batch in enumerate(batches):
        tf.nest.assert_same_structure(batch, form)
        for tensor, spec in zip(tf.nest.flatten(batch), tf.nest.flatten(form), strict=True):
            if not spec.shape.is_compatible_with(tensor.shape):
                raise ValueError(
                    f"batch {number} holds an array of shape {tuple(tensor.shape)}, expected {tuple(spec.shape)} as in "
                    "the first two; sizes that vary must differ between these two already"
                )
        yield batch
