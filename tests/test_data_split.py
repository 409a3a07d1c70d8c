"""split: no group and no moment on two sides."""

from __future__ import annotations

import numpy as np
import pytest

from masslib.data import Splits, from_arrays, split

N = 200
USER = np.random.default_rng(0).integers(0, 40, N)
SUBSET = from_arrays({"row": np.arange(N), "user": USER}, {"a": np.zeros(N), "b": np.arange(N)}, np.ones(N))


def parts(splits: Splits, field: str) -> list[np.ndarray]:
    return [part[:][0][field] for part in (splits.train, splits.valid, splits.test)]


@pytest.mark.parametrize("groups", ["user", USER, np.array([f"u{k}" for k in USER], object), USER[:, None]])
def test_no_group_is_on_two_sides(groups):
    found = split(SUBSET, valid=20, test=0.2, groups=groups)
    users = [set(part) for part in parts(found, "user")]
    assert users[0] | users[1] | users[2] == set(USER) and sum(map(len, users)) == len(set(USER))
    rows = parts(found, "row")
    assert sorted(np.concatenate(rows)) == list(range(N)) and all((np.diff(part) > 0).all() for part in rows)
    assert abs(len(found.valid) - 20) < 10 and abs(len(found.test) - 40) < 10
    assert [part.tolist() for part in parts(split(SUBSET, 20, 0.2, groups=groups), "row")] == [
        part.tolist() for part in rows
    ]
    assert parts(split(SUBSET, 20, 0.2, groups=groups, seed=1), "row")[2].tolist() != rows[2].tolist()
    assert len(found.test[:]) == 3 and found.test.y["b"].tolist() == rows[2].tolist()


def test_the_latest_rows_are_for_the_test():
    day = np.datetime64("2026-01-01") + np.random.default_rng(1).permutation(np.arange(N) // 4)
    by_row = [day[part] for part in parts(split(SUBSET, valid=0.1, test=0.2, time=day), "row")]
    assert by_row[0].max() < by_row[1].min() <= by_row[1].max() < by_row[2].min()
    assert [len(part) for part in by_row] == [140, 20, 40]
    assert [len(part) for part in parts(split(SUBSET, valid=199, test=199, time=day), "row")] == [4, 4, 192]


def test_without_either_it_is_splits_from_arrays():
    for ours, theirs in zip(
        parts(split(SUBSET, 9, 8), "row"), parts(Splits.from_arrays(SUBSET, 9, 8), "row"), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"groups": USER, "time": USER}, ValueError, "both groups and time"),
        (
            {"groups": "users"},
            ValueError,
            r"groups is 'users', expected an array or one of the inputs \['row', 'user'\]",
        ),
        ({"time": USER[:5]}, ValueError, r"time has shape \(5,\), expected \(200,\)"),
        ({"groups": USER % 2}, ValueError, "groups has 2 different values, expected at least 3"),
        ({"time": np.where(USER == 3, np.nan, USER)}, ValueError, "time is missing in"),
        ({"time": np.array(["NaT"] * N, "datetime64[s]")}, ValueError, "time is missing in 200 rows"),
        ({"groups": USER, "test": 1.5}, ValueError, "test is 1.5, expected 1 to 199 rows"),
        ({"groups": USER, "valid": "1"}, TypeError, "valid is '1', expected a number"),
    ],
)
def test_what_cannot_be_split_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        split(SUBSET, **options)
    with pytest.raises(TypeError, match="subset is a int"):
        split(3)


def test_a_group_that_would_be_most_of_a_side_is_for_training():
    groups = np.repeat(np.arange(41), [100, *[5] * 40])
    for seed in range(5):
        parts = split(from_arrays(groups, groups), valid=30, test=60, groups=groups, seed=seed)
        assert (len(parts.train), len(parts.valid), len(parts.test)) == (210, 30, 60) and 0 in parts.train.y
