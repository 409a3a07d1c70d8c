"""Batches: every row once, any step as a start, the same bits for the same numbers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from masslib.data import from_arrays

N = 23
X = np.random.default_rng(0).integers(0, 256, (N, 4, 5, 1), np.uint8)
SUBSET = from_arrays(X, np.arange(N))  # the label is the row


def run(*args, subset=SUBSET, **options):
    return list(subset.batches(*args, **options).as_numpy_iterator())


def rows(*args, **options) -> list[int]:
    return np.concatenate([y for _, y in run(*args, **options)]).tolist()


def same(a, b) -> bool:
    return len(a) == len(b) and all(
        p.dtype == q.dtype and np.array_equal(p, q)
        for left, right in zip(a, b, strict=True)
        for p, q in zip(left, right, strict=True)
    )


def test_an_epoch_holds_every_row_once_with_its_own_input():
    batches = run(5)
    assert [len(y) for _, y in batches] == [5, 5, 5, 5, 3]
    assert sorted(rows(5)) == list(range(N)) != rows(5)
    for x, y in batches:
        np.testing.assert_array_equal(x, SUBSET[y][0])
        assert (x.dtype, y.dtype) == (np.float32, np.int64)
    assert rows(5, shuffle=False, epochs=2) == 2 * list(range(N))


def test_order_is_a_function_of_seed_and_epoch_alone():
    orders = {(s, e): tuple(rows(5, seed=s, epoch=e)) for s in (0, 1, -(2**63)) for e in (0, 1, 2**40)}
    assert len(set(orders.values())) == 9
    assert rows(5) == rows(7) == rows(10**12)
    assert rows(5, epoch=3, epochs=3) == [r for e in (3, 4, 5) for r in rows(5, epoch=e)]


@pytest.mark.parametrize("replicas", [1, 4])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.filterwarnings("ignore:.*left out of every epoch")
def test_any_step_is_a_start(shuffle, replicas):
    options = {"shuffle": shuffle, "seed": 7, "replicas": replicas}
    steps = SUBSET.steps(8, replicas)
    whole = run(8, epoch=1, epochs=3, **options)
    for done in range(3 * steps + 1):
        epoch, start = divmod(done, steps)
        rest = SUBSET.batches(8, epoch=1 + epoch, epochs=3 - epoch, start=start, **options)
        assert rest.cardinality() == 3 * steps - done
        assert same(list(rest.as_numpy_iterator()), whole[done:])
    # The end of one epoch is the beginning of the next.
    assert same(run(8, epoch=1, epochs=3, start=steps, **options), whole[steps:])
    assert run(8, epochs=1, start=steps, **options) == run(8, epochs=0, **options) == []


@pytest.mark.parametrize("batch, replicas, sizes", [(8, 4, [8, 8, 4]), (6, 6, [6, 6, 6]), (40, 2, [22])])
def test_the_last_batch_is_cut_to_the_replicas_and_the_loss_is_reported(batch, replicas, sizes):
    with pytest.warns(UserWarning, match=rf"{N - sum(sizes)} of 23 rows are left out .*{replicas} replicas") as w:
        found = rows(batch, replicas=replicas, epochs=2)
    assert w[0].filename.endswith("test_data_batches.py")
    lengths = [len(y) for _, y in run(batch)]
    assert lengths != sizes  # nothing is cut for one replica
    assert len(found) == 2 * sum(sizes) and len(set(found[: sum(sizes)])) == sum(sizes)
    assert SUBSET.steps(batch, replicas) == len(sizes)
    assert found[: sum(sizes)] == rows(batch)[: sum(sizes)]


def test_nothing_is_reported_when_nothing_is_lost():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [len(y) for _, y in run(5, subset=SUBSET.take(20), replicas=5)] == [5, 5, 5, 5]


def test_a_batch_larger_than_the_data_is_all_rows():
    (batch,) = run(1000)
    assert len(batch[1]) == N and SUBSET.steps(1000) == 1


def test_shapes_and_length_are_known():
    dataset = SUBSET.batches(5, epochs=4, start=2)
    assert dataset.cardinality() == 18
    assert [spec.shape.as_list() for spec in dataset.element_spec] == [[None, 4, 5, 1], [None]]
    targets = from_arrays(np.zeros((6, 2)), np.ones((6, 3)))
    assert [spec.shape.as_list() for spec in targets.batches(5).element_spec] == [[None, 2], [None, 3]]


def test_it_works_inside_a_graph():
    import tensorflow as tf

    big = from_arrays(np.random.default_rng(0).integers(0, 256, (200, 8, 8), np.uint8), np.arange(200))

    @tf.function
    def total():
        result = 0.0
        for x, _ in big.batches(50):
            result += tf.reduce_sum(x)
        return result

    assert float(total()) == pytest.approx(big[:][0].sum(dtype=float), rel=1e-5)
    nodes = total.get_concrete_function().graph.as_graph_def().node
    assert max(node.ByteSize() for node in nodes) < 200 * 8 * 8  # the data is not a constant of the graph


REFUSED = [
    ((0,), {}, ValueError, "batch_size is 0, expected a positive integer"),
    ((-4,), {}, ValueError, "batch_size is -4, expected a positive integer"),
    ((4.0,), {}, TypeError, "batch_size is 4.0, expected a positive integer"),
    ((True,), {}, TypeError, "batch_size is True, expected a positive integer"),
    ((10,), {"replicas": 4}, ValueError, "batch_size is 10, .* 4 replicas; .* Use 8 or 12"),
    ((3,), {"replicas": 4}, ValueError, "batch_size is 3, .* 4 replicas; .* Use 4"),
    ((8,), {"replicas": 0}, ValueError, "replicas is 0, expected a positive integer"),
    ((24,), {"replicas": 24}, ValueError, "23 rows cannot feed 24 replicas"),
    ((5,), {"epochs": -1}, ValueError, "epochs is -1, expected an integer of 0 or more"),
    ((5,), {"epoch": 0.5}, TypeError, "epoch is 0.5, expected an integer of 0 or more"),
    ((5,), {"start": 6}, ValueError, "start is 6, expected an integer from 0 to 5"),
    ((5,), {"seed": 2**63}, ValueError, "seed is 9223372036854775808, expected an integer from -"),
    ((5,), {"seed": None}, TypeError, "seed is None, expected an integer"),
]


@pytest.mark.parametrize("args, options, error, words", REFUSED, ids=[row[-1][:35] for row in REFUSED])
def test_bad_numbers_are_refused(args, options, error, words):
    with pytest.raises(error, match=words):
        SUBSET.batches(*args, **options)
    if set(options) <= {"replicas"}:
        with pytest.raises(error, match=words):
            SUBSET.steps(*args, **options)


@pytest.mark.filterwarnings("ignore:.*left out of every epoch")
def test_shards_put_together_are_the_global_batches():
    options = {"seed": 3, "epochs": 2, "start": 1, "replicas": 4}
    parts = [run(8, shard=(rank, 2), **options) for rank in (0, 1)]
    joined = [tuple(np.concatenate(pair) for pair in zip(a, b, strict=True)) for a, b in zip(*parts, strict=True)]
    assert same(joined, run(8, **options))
    assert {len(y) for part in parts for _, y in part} == {4, 2}  # the last global batch is one of 4
    assert SUBSET.batches(8, shard=(1, 2), **options).cardinality() == len(parts[1])


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"shard": (0, 2)}, ValueError, "replicas is 1, which does not divide by 2 workers; .* such as 2"),
        ({"shard": (2, 2), "replicas": 2}, ValueError, "the rank, is 2, expected an integer from 0 to 1"),
        ({"shard": (0, 0)}, ValueError, "the workers, is 0, expected a positive integer"),
        ({"shard": 1}, TypeError, r"shard is 1, expected \(rank, workers\), such as \(0, 2\)"),
    ],
)
def test_bad_shards_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        SUBSET.batches(8, **options)
