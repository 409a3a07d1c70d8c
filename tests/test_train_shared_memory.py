"""Arrays are summed in shared memory: the same bits for all, no waiting for the dead, and a way out if it is full."""

import errno
import logging
import mmap
import os
import socket
import threading
import time
from unittest import mock

import keras
import numpy as np
import pytest

import masslib
from masslib.train import shared_memory
from masslib.train.shared_memory import SharedMemoryAllReduce, bytes_of, slots_for


def _workers(workers, nbytes):
    slots = np.zeros((slots_for(workers), nbytes), "uint8")
    pairs = {(a, b): socket.socketpair() for a in range(workers) for b in range(a)}
    others = [{} for _ in range(workers)]
    for (a, b), (left, right) in pairs.items():
        others[a][b], others[b][a] = (left, os.getpid()), (right, os.getpid())
        left.settimeout(1)
        right.settimeout(1)
    return [SharedMemoryAllReduce(slots, rank, others[rank]) for rank in range(workers)], pairs


def _summed(rounds):
    """Let a thread for each worker sum its arrays; return the sums by rank."""
    workers = len(rounds[0])
    needed = [bytes_of((array.size, array.dtype) for array in arrays[0]) for arrays in rounds]
    reductions, pairs = _workers(workers, max(needed))
    found = {}

    def work(rank):
        found[rank] = [reductions[rank].sum(*arrays[rank]) for arrays in rounds]

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for pair in pairs.values():
        for end in pair:
            end.close()
    return found


@pytest.mark.parametrize("workers", [2, 3, 4])
@pytest.mark.parametrize("dtypes", [["float32"] * 5, ["float64"] * 5, ["float32", "float64", "float16", "float32"]])
def test_all_get_the_sums_in_the_order_of_the_ranks_and_keep_them(workers, dtypes):
    rng = np.random.default_rng(0)
    shapes = [(7, 11), (), (1001,), (0, 3)]
    rounds = [
        [[rng.normal(size=shape).astype(dtype) for shape in shapes[: 4 - number % 3]] for _ in range(workers)]
        for number, dtype in enumerate(dtypes)
    ]
    mixed = [[rng.normal(size=size).astype(dtype) for size, dtype in enumerate(dtypes)] for _ in range(workers)]
    rounds.append(mixed)
    found = _summed(rounds)
    for number, arrays in enumerate(rounds):
        expected = [sum(values[1:], values[0]).ravel() for values in zip(*arrays, strict=True)]
        for rank in range(workers):
            for mine, right in zip(found[rank][number], expected, strict=True):
                assert mine.dtype == right.dtype
                np.testing.assert_array_equal(mine, right)


@pytest.mark.parametrize("workers", [2, 3])
def test_a_fast_worker_never_writes_over_what_a_slow_one_still_reads(workers, monkeypatch):
    """Between meeting the others and reading what they wrote, now one worker dawdles and now another."""
    private, dawdle = shared_memory._private, threading.local()

    def slow(like):
        dawdle.calls = getattr(dawdle, "calls", threading.get_ident()) + 1
        time.sleep(0.02 * (dawdle.calls % 2))
        return private(like)

    monkeypatch.setattr(shared_memory, "_private", slow)
    rounds = [[[np.full(100, float(number))]] * workers for number in range(20)]
    found = _summed(rounds)
    for rank in range(workers):
        assert [set(values) for (values,) in found[rank]] == [{number * workers} for number in range(20)]


def test_a_worker_that_has_gone_is_named():
    (first, _), pairs = _workers(2, 64)
    left, right = pairs[1, 0]
    left.close()
    with pytest.raises(ConnectionError, match="worker 1 has gone"):
        first.sum(np.ones(4, "float32"))
    right.close()


class Remembering(keras.optimizers.Optimizer):
    """Steps along the gradient of the step before, which it keeps."""

    def build(self, variables):
        super().build(variables)
        self.last = [self.add_variable_from_reference(variable, "last") for variable in variables]

    def update_step(self, gradient, variable, learning_rate):
        last = self.last[self._get_variable_index(variable)]
        self.assign_sub(variable, keras.ops.cast(learning_rate, variable.dtype) * last)
        self.assign(last, gradient)


def _three_dtypes(strategy, optimizer, wire):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((8,))
        hidden = keras.layers.Dense(6, "tanh")(inputs)
        hidden = keras.layers.Dense(6, "tanh", dtype="float64")(hidden)
        half = keras.layers.Dense(6, "tanh", dtype="float16")(hidden)
        outputs = keras.layers.Dense(1, dtype="float64")(keras.layers.Concatenate(dtype="float64")([hidden, half]))
        model = keras.Model(inputs, outputs)
        model.compile(optimizer(0.1), "mse")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 8)).astype("float32"), rng.normal(size=(64, 1)).astype("float32")
    history = masslib.fit(model, x, y, batch_size=16, epochs=2, verbose=0, wire=wire).history
    return [*model.get_weights(), *history.values()]


class _Failing:
    """Makes one worker fail with an error of the system."""

    def __init__(self, strategy, rank, target):
        self.patch = mock.patch(target, side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        self.active = strategy.cluster_resolver.task_id == rank

    def __enter__(self):
        return self.patch.start() if self.active else None

    def __exit__(self, *exception):
        if self.active:
            self.patch.stop()


FAILURES = [(0, "os.posix_fallocate"), (0, "tempfile.NamedTemporaryFile"), (1, "mmap.mmap"), (1, "socket.socket.bind")]


def _both_ways():
    strategy = masslib.strategy("multi_worker")
    told = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    logging.getLogger("masslib").addHandler(handler)
    results = {}
    for optimizer in (keras.optimizers.SGD, Remembering):
        for wire in ("float32", "auto"):
            results[optimizer.__name__, wire] = _three_dtypes(strategy, optimizer, wire)
    assert not told
    for rank, target in FAILURES:
        with _Failing(strategy, rank, target):
            results[target] = _three_dtypes(strategy, keras.optimizers.SGD, "auto")
    return results, told


@pytest.mark.alone
@pytest.mark.slow
def test_a_training_sums_each_dtype_and_does_without_where_memory_cannot_be_shared():
    (results, told), (others, silence) = masslib.launch(_both_ways, workers=2, threads=1)
    for name, values in results.items():
        optimizer = name[0] if isinstance(name, tuple) else "SGD"
        for mine, theirs, expected in zip(values, others[name], results[optimizer, "float32"], strict=True):
            np.testing.assert_array_equal(mine, theirs)
            np.testing.assert_allclose(mine, expected, rtol=1e-6, err_msg=str(name))
    assert len(told) == len(FAILURES)
    assert not silence
    for words in told:
        assert "the workers could not share memory (" in words
        assert "No space left on device" in words
    assert "start the container with more room, as by `docker run --shm-size=1g`" in told[0]


def test_memory_that_is_mapped_can_be_used(tmp_path):
    """What `posix_fallocate` reserves is there, where `truncate` would only have promised it."""
    with open(tmp_path / "memory", "w+b") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 16)
        assert os.stat(file.fileno()).st_blocks * 512 >= 1 << 16
        mmap.mmap(file.fileno(), 1 << 16)[-1] = 1
