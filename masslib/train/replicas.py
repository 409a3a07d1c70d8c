"""The replicas of a training, and how the processes that hold them agree with each other."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    import keras

    from masslib.train.shared_memory import SharedMemoryAllReduce

# What ranks tell each other travels in pieces: neither a tensor nor a message of gRPC may exceed 2 GiB.
_PIECE_BYTES = 1 << 26


class Replicas:
    """Counts the replicas of a strategy, and lets its processes talk.

    The methods that talk are collective: every process has to call them, at the same point of its training. In a
    training of one process they return what they were given.

    Attributes:
        count: Replicas in all processes.
        workers: Processes.
        clustered: Whether it is a training of several processes, of which one may be left.
        rank: Number of this process; rank 0 is the chief, which writes the files.
        local: Replicas in this process.
        first: Number of the first of them among all.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy = strategy
        self.count = strategy.num_replicas_in_sync
        self.workers, self.rank = 1, 0
        self.clustered = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        if self.clustered:
            resolver = strategy.cluster_resolver
            tasks = resolver.cluster_spec().as_dict()
            chiefs = len(tasks.get("chief", ()))
            self.workers = max(chiefs + len(tasks.get("worker", ())), 1)
            self.rank = (resolver.task_id or 0) + (chiefs if resolver.task_type == "worker" else 0)
        self.local = self.count // self.workers
        self.first = self.rank * self.local

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def copies(self, variable: keras.Variable) -> list[Any]:
        """Return what each replica of this process holds of a variable."""
        if self.count == 1:
            return [variable.value]
        return list(self.strategy.experimental_local_results(variable.value))

    def averaging(self, variables: list[keras.Variable]) -> Callable[[], None]:
        """Return a function that gives all replicas the mean of what each holds of some variables. Collective."""
        if self.count == 1 or not variables:
            return lambda: None

        @tf.function
        def means() -> list[Any]:
            def replica() -> list[tf.Tensor]:
                values = all_reduce([tf.convert_to_tensor(variable.value) for variable in variables])
                return [value / self.count for value in values]

            return self.strategy.run(replica)

        def average() -> None:
            for variable, value in zip(variables, means(), strict=True):
                variable.assign(self.strategy.experimental_local_results(value)[0])

        return average

    def broadcast(self, content: bytes) -> bytes:
        """Return what rank 0 passes. Collective."""
        if self.workers == 1:
            return content
        return self._gather(content if self.is_chief else b"", rows=1)[0]

    def gather(self, content: bytes) -> list[bytes]:
        """Return what every rank passes, by rank. Collective."""
        if self.workers == 1:
            return [content]
        return self._gather(content, rows=self.workers)

    def _gather(self, content: bytes, rows: int) -> list[bytes]:
        """Return what the first so many ranks pass; the others pass nothing. Collective."""
        sizes = np.zeros(self.workers, "int64")
        sizes[self.rank] = len(content)
        # The sum of 32-bit halves is exact, since all but one of the ranks add zero.
        sizes = self._sum(sizes.view("int32")).view("int64")[:rows]
        received = [bytearray() for _ in range(rows)]
        piece = max(_PIECE_BYTES // rows, 4)
        for start in range(0, int(sizes.max()), piece):
            width = min(piece, int(sizes.max()) - start)
            words = np.zeros((rows, -(-width // 4)), "int32")
            if self.rank < rows:
                mine = content[start : start + width]
                words[self.rank].view("uint8")[: len(mine)] = np.frombuffer(mine, "uint8")
            for row, whole in zip(self._sum(words), received, strict=True):
                whole += row.view("uint8")[:width].data
        return [bytes(memoryview(whole)[:size]) for whole, size in zip(received, sizes, strict=True)]

    def least(self, number: int) -> int:
        """Return the least of the numbers that the processes pass. Collective."""
        return min(int(content) for content in self.gather(str(number).encode()))

    def agree(self, *flags: bool, count: int = 0) -> tuple[list[bool], int]:
        """Tell of every flag whether any process has set it, and what rank 0 has passed as `count`. Collective."""
        if self.workers == 1:
            return list(flags), count
        *stops, agreed = self._sum(np.array([*flags, count if self.is_chief else 0], "int32"))
        return [bool(stop) for stop in stops], int(agreed)

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """Add up an int32 array over the processes; integers of 32 bits cross any network whole."""
        return self.strategy.experimental_local_results(self._summing(values))[0].numpy()

    @cached_property
    def _summing(self) -> Any:
        @tf.function
        def summing(values: tf.Tensor) -> tf.Tensor:
            def replica() -> tf.Tensor:
                context = tf.distribute.get_replica_context()
                mine = tf.where(context.replica_id_in_sync_group == self.first, values, 0)
                return context.all_reduce(tf.distribute.ReduceOp.SUM, mine)

            return self.strategy.run(replica)

        return lambda values: summing(tf.constant(values))


def all_reduce(
    tensors: list[tf.Tensor], wire: str = "auto", shared: SharedMemoryAllReduce | None = None
) -> list[tf.Tensor]:
    """Sum tensors over the replicas at once, or in one collective per dtype: many small ones cost more than a large.

    Must be called in replica context.

    Args:
        tensors: What this replica contributes.
        wire: With `"float16"`, float32 tensors are sent with half of their bytes.
        shared: Sums what fits into it, in place of TensorFlow's collective.
    """
    shapes = [tensor.shape for tensor in tensors]
    if shared and tensors and shared.fits(tensors):
        # Tensor by tensor, into the memory that is shared and out of it: to join and to split them costs two passes.
        sums = tf.numpy_function(shared.sum, tensors, [tensor.dtype for tensor in tensors])
        return [tf.reshape(value, shape) for value, shape in zip(sums, shapes, strict=True)]

    def summed(flat: tf.Tensor) -> tf.Tensor:
        context, dtype = tf.distribute.get_replica_context(), flat.dtype
        flat = tf.cast(flat, tf.float16) if wire == "float16" and dtype == tf.float32 else flat
        return tf.cast(context.all_reduce(tf.distribute.ReduceOp.SUM, flat), dtype)

    result: list[Any] = list(tensors)
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        places = [place for place, tensor in enumerate(tensors) if tensor.dtype == dtype]
        flat = tf.concat([tf.reshape(tensors[place], [-1]) for place in places], 0)
        sizes = [shapes[place].num_elements() for place in places]
        for place, part in zip(places, tf.split(summed(flat), sizes), strict=True):
            result[place] = tf.reshape(part, shapes[place])
    return result
