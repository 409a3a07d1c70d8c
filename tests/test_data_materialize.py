"""from_dataset: what a dataset yields, in memory, or a clear word why not."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from masslib.data import from_arrays, from_dataset

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


REFUSED = [
    ((X, Y), TypeError, "dataset is a tuple, expected a tf.data.Dataset; for arrays: from_arrays"),
    (tf.data.Dataset.from_tensor_slices(X), TypeError, r"elements are .*, expected pairs \(x, y\) of tensors"),
    (tf.data.Dataset.from_tensor_slices((X, Y, Y)), TypeError, r"expected pairs \(x, y\)"),
    (tf.data.Dataset.from_tensor_slices(({"a": X}, Y)), TypeError, r"expected pairs \(x, y\)"),
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
