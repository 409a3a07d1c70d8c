"""from_dataset: what a dataset yields, in memory, or a clear word why not."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from masslib.data import from_arrays, from_dataset, ragged

X = np.random.default_rng(0).integers(0, 256, (700, 4, 5, 3), np.uint8)
Y = np.arange(700) % 3
PAIRS = tf.data.Dataset.from_tensor_slices((X, Y))


@pytest.mark.parametrize("dataset", [PAIRS, PAIRS.batch(64), PAIRS.batch(1000), PAIRS.filter(lambda x, y: True)])
def test_batched_or_not_it_is_what_from_arrays_makes_of_the_arrays(dataset):
    subset, expected = from_dataset(dataset, classes=["a", "b", "c"]), from_arrays(X, Y, classes=["a", "b", "c"])
    assert repr(subset) == repr(expected) == "Subset(700 rows of (4, 5, 3), uint8 x 0.003922, labels int64, 3 classes)"
    np.testing.assert_array_equal(subset[:][0], expected[:][0])
    np.testing.assert_array_equal(subset.y, expected.y)


def test_a_subset_that_became_batches_comes_back():
    subset = from_arrays(X, Y)
    back = from_dataset(subset.batches(64, shuffle=False))
    np.testing.assert_array_equal(back[:][0], subset[:][0])
    targets = from_dataset(tf.data.Dataset.from_tensor_slices((X, np.ones((700, 2)))).batch(10), scale=0.5)
    assert (targets.y.shape, targets[:][0].max()) == ((700, 2), 127.5)


def test_the_limit_is_kept_exactly():
    size = X.nbytes + Y.nbytes
    assert len(from_dataset(PAIRS.batch(7), max_bytes=size)) == 700
    with pytest.raises(ValueError, match=rf"more than max_bytes={size - 1:,}: {size:,} bytes by row 700.*take\(n\)"):
        from_dataset(PAIRS.batch(7), max_bytes=size - 1)
    endless = PAIRS.repeat().filter(lambda x, y: True)  # of unknown length
    with pytest.raises(ValueError, match="more than max_bytes=100,000"):
        from_dataset(endless, max_bytes=100_000)


STRUCTURES = {
    "x alone": (X,),
    "dict alone": ({"photo": X, "id": Y},),
    "scalars alone": (Y,),
    "several": (
        {"photo": X, "more": (Y, {"name": np.array([f"n{k}" for k in range(700)], object)})},
        (Y, X[:, 0] / 9),
        (Y / 700, X[:, 0, :, 0] / 255),
    ),
    "weights": ((X, Y), {"a": Y}, {"a": Y / 700}),
}


def same(found, expected):
    tf.nest.assert_same_structure(found, expected)
    for a, b in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        assert (a is None) == (b is None) and getattr(a, "dtype", None) == getattr(b, "dtype", None)
        np.testing.assert_array_equal([v.decode() for v in a] if a is not None and a.dtype.kind == "O" else a, b)


# Single images without labels cannot be told from batches, so they are taken for such.
@pytest.mark.parametrize("kind, batch", [(k, b) for k in STRUCTURES for b in (None, 64) if b or k != "x alone"])
def test_structures_come_as_from_arrays_makes_them(kind, batch):
    parts = STRUCTURES[kind]
    dataset = tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0])
    subset = from_dataset(dataset.batch(batch) if batch else dataset)
    expected = from_arrays(*parts)
    same(subset[:], expected[:])
    assert len(subset) == 700 and tf.nest.flatten(subset.rows.scale) == tf.nest.flatten(expected.rows.scale)
    for found, other in zip(subset.batches(99, seed=3), expected.batches(99, seed=3), strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, found, other)


def test_ragged_tensors_become_ragged_fields():
    words = [np.arange(1, 2 + k % 9) for k in range(700)]
    dataset = tf.data.Dataset.from_tensor_slices(({"words": tf.ragged.constant(words), "photo": X}, Y))
    expected = from_arrays({"words": ragged([row.astype(np.int32) for row in words]), "photo": X}, Y)
    for given in (dataset, dataset.batch(64), dataset.ragged_batch(64)):
        subset = from_dataset(given)
        same(subset[:], expected[:])
        assert subset.rows.parts["words"].lengths.tolist() == [len(row) for row in words]
    back = from_dataset(PAIRS.map(lambda x, y: (x[0, : 1 + y], y)).ragged_batch(8))
    assert back.input_shape == (None, 3) and set(back.rows.lengths) == {1, 2, 3}


def test_options_name_their_fields():
    dataset = tf.data.Dataset.from_tensor_slices(({"photo": X, "id": Y}, {"kind": Y, "size": Y / 2}))
    subset = from_dataset(dataset, classes={"kind": ["a", "b", "c"]}, scale={"photo": 0.5})
    assert subset.classes == {"kind": ["a", "b", "c"]} and subset[:][0]["photo"].max() == 127.5


REFUSED = [
    ((X, Y), TypeError, "dataset is a tuple, expected a tf.data.Dataset; for arrays: from_arrays"),
    (
        tf.data.Dataset.from_tensor_slices((X, Y, Y, Y)),
        TypeError,
        r"elements are .*, expected x, \(x, y\) or \(x, y, sam",
    ),
    (tf.data.Dataset.from_tensors((tf.sparse.eye(3), [0, 1, 2])), TypeError, "dense, or ragged in one axis"),
    (PAIRS.repeat(), ValueError, r"never ends\. Leave repeat\(\) out"),
    (PAIRS.take(0), ValueError, "the dataset is empty"),
    (PAIRS.map(lambda x, y: (x[: 1 + y], y)), ValueError, "cannot be read as rows of one shape"),
    (
        PAIRS.take(4).map(lambda x, y: (x[tf.newaxis, : 1 + y], y[tf.newaxis])),
        ValueError,
        r"the rows have shapes \[\(1, 5, 3\), \(2, 5, 3\), .*expected one. Resize",
    ),
    (PAIRS.batch(9).map(lambda x, y: (x, y[:3])), ValueError, "different numbers of rows: {'x': 700, 'y': 234}"),
    (PAIRS.map(lambda x, y: (x, tf.as_string(y))), TypeError, "y has dtype object, expected numbers"),
]


@pytest.mark.parametrize("dataset, error, words", REFUSED, ids=[row[-1][:30] for row in REFUSED])
def test_other_datasets_are_refused(dataset, error, words):
    with pytest.raises(error, match=words):
        from_dataset(dataset)
