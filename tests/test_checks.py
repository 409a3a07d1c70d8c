"""Counts and numbers: NumPy's are as good as Python's, booleans are neither."""

from __future__ import annotations

import numpy as np
import pytest

import masslib
from masslib._util.checks import check_count, check_counts


def test_counts_are_returned_as_ints_of_python():
    for number in (3, np.int64(3), np.uint8(3)):
        assert type(check_count("n", number)) is int
        check_counts(n=(number, 3), m=(number, 0))
    for wrong in (0, -1, True, np.bool_(True), 3.0, np.float32(3), "3", None, np.array([3])):
        with pytest.raises(ValueError, match="n=.*: expected a whole number of at least 1"):
            check_count("n", wrong)


CALLS = {
    "input_shape": lambda n: masslib.models.mlp((n,), 3),
    "columns": lambda n: masslib.plot.images(np.zeros((2, 8, 8)), columns=n),
    "batch_size": lambda n: masslib.evaluate(_Echo(), (np.eye(3), [0, 1, 2]), batch_size=n),
    "rows": lambda n: masslib.data.from_arrays(np.zeros((9, 2)), np.zeros(9)).sample(n),
    "seed": lambda n: masslib.data.from_arrays(np.zeros((9, 2)), np.zeros(9)).batches(4, seed=n),
}


class _Echo:
    def predict(self, x):
        return x


@pytest.mark.parametrize("name", CALLS)
def test_calls_take_numpys_integers(name):
    for kind in (np.int64, np.uint8):
        CALLS[name](kind(4))
    for wrong in (True, np.bool_(True), 4.0, "4"):
        with pytest.raises((ValueError, TypeError)):
            CALLS[name](wrong)
