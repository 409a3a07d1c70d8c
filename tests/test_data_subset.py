"""Subset and Splits: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pandas
import pytest

from masslib.data import Splits, Subset, from_arrays

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 4, 5, 1), np.uint8)


def test_bytes_stay_bytes_and_come_out_as_fractions():
    subset = from_arrays(IMAGES, np.arange(30) % 3, classes=["a", "b", "c"])
    x, y = subset[:]
    assert (len(subset), subset.input_shape, x.dtype, y.dtype) == (30, (4, 5, 1), np.float32, np.int64)
    np.testing.assert_array_equal(x, IMAGES * np.float32(1 / 255))
    assert x.min() >= 0 and x.max() <= 1
    assert len(pickle.dumps(subset.rows)) < 2 * IMAGES.nbytes  # as float32 it would be four times as much
    assert repr(subset) == "Subset(30 rows of (4, 5, 1), uint8 x 0.003922, labels int64, 3 classes)"


@pytest.mark.parametrize(
    "x, scale, factor, kind",
    [
        (IMAGES, None, 1 / 255, np.float32),
        (IMAGES[..., 0], None, 1 / 255, np.float32),
        (IMAGES, 1 / 16, 1 / 16, np.float32),
        (IMAGES[:, 0, :, 0], None, 1, np.uint8),
        (IMAGES.astype(float), None, 1, np.float32),
        (IMAGES.astype(np.uint16), None, 1, np.uint16),
        (IMAGES.astype(">i4"), None, 1, np.int32),
        (IMAGES.astype(np.float16), None, 1, np.float32),
        (IMAGES.astype(np.float16), np.float32(0.5), 0.5, np.float32),
        (IMAGES > 100, None, 1, bool),
        (IMAGES[:, ::-1, ::2], None, 1 / 255, np.float32),
    ],
)
def test_shapes_stay_and_only_scaled_rows_change_their_type(x, scale, factor, kind):
    subset = from_arrays(x, np.zeros(30, int), scale=scale)
    found, _ = subset[:]
    assert (found.shape, found.dtype) == (x.shape, kind)
    np.testing.assert_array_equal(found, x * np.asarray(factor, np.float32))
    ((batch, _),) = subset.batches(30, shuffle=False).as_numpy_iterator()
    assert batch.dtype == found.dtype
    np.testing.assert_array_equal(batch, found)


def test_ids_above_2_24_stay_what_they_are():
    ids = 2**24 + 1 + 2 * np.arange(6).reshape(3, 2)
    ((x, y),) = from_arrays(ids, ids[:, 0] * 2**20).batches(3, shuffle=False).as_numpy_iterator()
    np.testing.assert_array_equal(x, ids)
    np.testing.assert_array_equal(y, ids[:, 0] * 2**20)


def test_strings_and_rows_without_labels():
    subset = from_arrays(np.array(["a b", "c", "d e f"]))
    assert repr(subset.take(2)) == "Subset(2 rows of (), <U5, no labels)"
    assert subset[1:][1] is None
    (x,) = subset.batches(3, shuffle=False).as_numpy_iterator()
    assert x.tolist() == [b"a b", b"c", b"d e f"]


def test_rows_by_slice_array_mask_and_number():
    subset = from_arrays(IMAGES, np.arange(30))
    x, _ = subset[:]
    mask = np.arange(30) % 7 == 2
    for rows in (slice(3, 20, 4), np.array([5, 5, 0, -1]), [2, 1], mask, 4, np.uint8(3)):
        found, y = subset[rows]
        np.testing.assert_array_equal(found, x[rows])
        np.testing.assert_array_equal(y, np.arange(30)[rows])
    for rows in ([0.5], "3", [[1, 2]], None, True):
        with pytest.raises(TypeError, match=r"expected an int, a slice, a 1-D array of ints or a mask"):
            subset[rows]
    with pytest.raises(IndexError, match="30"):
        subset[30]


def test_take_is_a_prefix_and_keeps_classes():
    subset = from_arrays(IMAGES, np.arange(30) % 2, classes=["a", "b"]).take(7)
    np.testing.assert_array_equal(subset[:][0], from_arrays(IMAGES, np.arange(30))[:7][0])
    assert (len(subset), subset.classes) == (7, ["a", "b"])


def test_sample_is_stratified_without_replacement_and_repeatable():
    y = np.repeat([0, 1, 2], [20, 8, 2])
    subset = from_arrays(np.arange(30.0)[:, None], y)
    sample = subset.sample(15, seed=3)
    assert np.bincount(sample.y).tolist() == [10, 4, 1]
    rows = sample[:][0].ravel().astype(int)
    assert len(set(rows)) == 15 and (y[rows] == sample.y).all()
    np.testing.assert_array_equal(subset.sample(15, seed=3)[:][0], sample[:][0])
    assert (subset.sample(15, seed=4)[:][0] != sample[:][0]).any()
    assert sorted(subset.sample(30)[:][0].ravel()) == list(range(30))
    assert len(from_arrays(np.zeros((3, 1)), [0, 0, 1]).sample(1)) == 1  # fewer rows than classes
    assert sorted(from_arrays(np.zeros((9, 1)), np.arange(9.0)).sample(9).y) == list(range(9))  # regression


@pytest.mark.parametrize("method", ["take", "sample"])
def test_counts_of_rows_are_checked(method):
    subset = from_arrays(np.zeros((6, 2)), np.zeros(6, int))
    for n in (0, 7, -1):
        with pytest.raises(ValueError, match=f"n is {n}, expected an integer from 1 to 6"):
            getattr(subset, method)(n)
    for n in (2.0, "2", True, None):
        with pytest.raises(TypeError, match="n is .*, expected an integer from 1 to 6"):
            getattr(subset, method)(n)


@pytest.mark.parametrize(
    "y, kind, shape",
    [
        ([1, 0, 2], np.int64, (3,)),
        (np.array([[1], [0], [2]], np.uint8), np.uint8, (3, 1)),
        (np.array([True, False, True]), bool, (3,)),
        (pandas.Series([1, 0, 2], index=[7, 8, 9]), np.int64, (3,)),
        ([-1, 1, 2**40], np.int64, (3,)),
        ([0.5, -1.0, 2.0], np.float32, (3,)),
        (np.ones((3, 4)), np.float32, (3, 4)),
        (np.ones((3, 4), int), np.int64, (3, 4)),
        (np.ones((3, 4, 4, 1), np.float16), np.float32, (3, 4, 4, 1)),
    ],
)
def test_labels_stay_as_they_are(y, kind, shape):
    found = from_arrays(pandas.DataFrame({"a": [1, 2, 3], "b": [0.5, 1.5, 2.5]}), y).y
    assert (found.dtype, found.shape) == (kind, shape)
    np.testing.assert_array_equal(found.ravel(), np.asarray(y).ravel())


X, Y = np.zeros((4, 2)), np.array([0, 1, 1, 0])
REFUSED = [
    (
        np.array([[0.0], [np.nan], [np.inf]]),
        Y[:3],
        {},
        ValueError,
        r"x holds NaN .* in 2 rows, first in row 1",
    ),
    (np.full((4, 2), 1e300), Y, {}, ValueError, r"x holds NaN or infinity \(as float32\) in 4 rows"),
    (X, Y[:3], {}, ValueError, r"different numbers of rows: {'x': 4, 'y': 3}; expected as many"),
    (X[:0], Y[:0], {}, ValueError, r"x has shape \(0, 2\).*at least one row"),
    (3.0, Y, {}, ValueError, r"x has shape \(\)"),
    ([[1, 2], [3]], Y[:2], {}, ValueError, r"x is no array"),
    (np.array([[1, "a"]], object), Y[:1], {}, TypeError, r"x has dtype object, expected numbers, booleans or strings"),
    (np.zeros((4, 2), "datetime64[s]"), Y, {}, TypeError, r"x has dtype datetime64\[s\], expected numbers"),
    (X + 1j * np.inf, Y, {}, ValueError, r"x holds NaN or infinity"),
    (np.array([["a"]]), Y[:1], {"scale": 2}, ValueError, r"x has dtype <U1; only numbers can be scaled"),
    (X, ["a", "b", "a", "b"], {}, TypeError, r"y has dtype <U1.*Number the classes"),
    (X, [None] * 4, {}, TypeError, r"y has dtype object"),
    (X, np.zeros((4, 0)), {}, ValueError, r"y has shape \(4, 0\)"),
    (X, [0.0, np.nan, 1.0, 2.0], {}, ValueError, r"y holds NaN .* row 1"),
    (X, [0, -1, 1, -1], {"classes": ["a", "b"]}, ValueError, r"label -1 in row 1 \(2 such labels\).*LabelEncoder"),
    (X, [0, 1, 2, 0], {"classes": ["a", "b"]}, ValueError, r"label 2 in row 2 .*expected 0 to 1"),
    (X, Y, {"classes": "ab"}, TypeError, r"classes is 'ab', expected a list of names"),
    (X, Y, {"classes": [0, 1]}, TypeError, r"classes is \[0, 1\]"),
    (X, Y, {"classes": []}, ValueError, r"classes is empty"),
    (X, Y, {"scale": "1/255"}, TypeError, r"scale is '1/255', expected a number"),
    (X, Y, {"scale": 0}, ValueError, r"scale is 0, expected a finite number other than 0"),
    (X, Y, {"scale": float("nan")}, ValueError, r"scale is nan"),
]


@pytest.mark.parametrize("x, y, options, error, words", REFUSED, ids=[row[-1][:30] for row in REFUSED])
def test_bad_arrays_are_refused(x, y, options, error, words):
    with pytest.raises(error, match=words):
        from_arrays(x, y, **options)


def test_splits():
    part = from_arrays(IMAGES, np.arange(30) % 3)
    splits = Splits(part, part.take(5), part.take(2), ["a", "b", "c", "d"])
    assert repr(splits) == "Splits(train=30, valid=5, test=2, classes=['a', ...])"
    assert (splits.input_shape, splits.num_classes) == ((4, 5, 1), 4)
    assert Splits(part, part.take(1), part.take(1), None).num_classes == 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        splits.train = part
    for labels in (np.ones(4), np.ones((4, 2), int), None):
        prices = from_arrays(X, labels)
        with pytest.raises(ValueError, match="labels are floats, absent or several per row"):
            _ = Splits(prices, prices, prices, None).num_classes
    with pytest.raises(ValueError, match=r"input shapes differ.*'valid': \(2,\)"):
        Splits(part, prices, part, None)
    with pytest.raises(TypeError, match="test is a ndarray, expected a Subset"):
        Splits(part, part, IMAGES, None)
    assert isinstance(splits.valid, Subset)


def rows_of(splits: Splits) -> list[list[float]]:
    return [part[:][0].ravel().tolist() for part in (splits.train, splits.valid, splits.test)]


def test_splits_from_arrays():
    x, y = np.arange(100.0)[:, None], np.repeat([0, 1], [80, 20])
    splits = Splits.from_arrays((x, y), classes=["no", "yes"])
    assert [np.bincount(part.y).tolist() for part in (splits.train, splits.valid, splits.test)] == [
        [56, 14],
        [8, 2],
        [16, 4],
    ]
    assert sorted(sum(rows_of(splits), [])) == list(range(100)) and splits.classes == ["no", "yes"]
    assert rows_of(Splits.from_arrays((x, y))) == rows_of(splits) != rows_of(Splits.from_arrays((x, y), seed=1))
    given = Splits.from_arrays(from_arrays(x, y, classes=["no", "yes"]), valid=(x[:3], y[:3]), test=from_arrays(x, y))
    assert (len(given.train), len(given.valid), len(given.test), given.classes) == (100, 3, 100, ["no", "yes"])
    for labels in (np.arange(100.0), np.eye(100, 4, dtype=int), None):  # quantities and several labels: at random
        parts = rows_of(Splits.from_arrays((x, labels), valid=5, test=0.5))
        assert [len(part) for part in parts] == [45, 5, 50] and sorted(sum(parts, [])) == list(range(100))
    with pytest.raises(TypeError, match=r"train is a ndarray, expected a pair of arrays \(x, y\) or a Subset"):
        Splits.from_arrays(x)
    with pytest.raises(ValueError, match="class 3 has 1 row left .* quantities are no classes: pass them as floats"):
        Splits.from_arrays((x[:7], [0, 0, 0, 1, 1, 1, 3]))
    with pytest.raises(ValueError, match=r"test is 1.5, expected 1 to 99 rows.*both sides need a row"):
        Splits.from_arrays((x, np.arange(100.0)), test=1.5)
