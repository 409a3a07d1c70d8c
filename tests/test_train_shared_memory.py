"""Arrays are added up in shared memory: the same bits for all, and no waiting for the dead."""

import os
import socket
import threading

import numpy as np
import pytest

from masslib.train.shared_memory import Meeting


def _meetings(workers, nbytes):
    slots = np.zeros((workers + 1, nbytes), "uint8")
    pairs = {(a, b): socket.socketpair() for a in range(workers) for b in range(a)}
    others = [{} for _ in range(workers)]
    for (a, b), (left, right) in pairs.items():
        others[a][b], others[b][a] = (left, os.getpid()), (right, os.getpid())
        left.settimeout(1)
        right.settimeout(1)
    return [Meeting(slots, rank, others[rank]) for rank in range(workers)], pairs


@pytest.mark.parametrize("workers", [2, 3, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_get_the_same_sum_in_the_order_of_the_ranks(workers, dtype):
    rng = np.random.default_rng(0)
    rounds = rng.normal(size=(5, workers, 1001)).astype(dtype)
    meetings, pairs = _meetings(workers, 1001 * 8)
    found = {}

    def work(rank):
        found[rank] = [meetings[rank].sum(values[rank]).copy() for values in rounds]

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for number, values in enumerate(rounds):
        expected = values[0]
        for value in values[1:]:
            expected = expected + value
        for rank in range(workers):
            np.testing.assert_array_equal(found[rank][number], expected)
    for pair in pairs.values():
        for end in pair:
            end.close()


def test_a_worker_that_has_gone_is_named():
    (first, _), pairs = _meetings(2, 64)
    left, right = pairs[1, 0]
    left.close()
    with pytest.raises(ConnectionError, match="worker 1 has gone"):
        first.sum(np.ones(4, "float32"))
    right.close()
