"""`split`: the rows of a `Subset` in three parts, at random, by groups or by time."""

from __future__ import annotations

from typing import Any

import numpy as np

from masslib.data.rows import NestedRows
from masslib.data.splits import Splits
from masslib.data.subset import Subset, class_numbers


def split(
    subset: Subset,
    valid: int | float = 0.1,
    test: int | float = 0.2,
    *,
    groups: Any = None,
    time: Any = None,
    seed: int = 0,
) -> Splits:
    """Splits the rows of a `Subset` into train, validation and test rows.

    Without `groups` and `time` this is `Splits.from_arrays`. With either, whole groups or moments are moved, so the
    counts are as near to those asked for as that allows.

    Args:
        subset: the rows.
        valid: validation rows: an int, or a fraction of all rows.
        test: test rows, likewise.
        groups: `(n,)` to which group each row belongs, such as a patient or a user, or the name of an input: no group
            is on two sides. Groups of more than half of a side's rows are for training while there are others.
        time: `(n,)` when each row was, in any type that can be ordered, or the name of an input: the latest rows
            are for the test, those before for validation; no moment is on two sides.
        seed: of the split at random and by groups, 0 to 2**32 - 1.

    Returns:
        The parts, the same for the same seed, in the order of the rows.

    Raises:
        TypeError: `subset` is no Subset, or a size is no number.
        ValueError: both `groups` and `time`; not one value per row, or missing ones; too few rows, groups or moments.

    Example:
        >>> from masslib.data import from_arrays
        >>> days = from_arrays({"day": np.arange(10) // 2, "heat": np.zeros(10)}, np.zeros(10))
        >>> split(days, valid=2, test=2, time="day").test[:][0]["day"]
        array([4, 4])
    """
    if not isinstance(subset, Subset):
        raise TypeError(f"subset is a {type(subset).__name__}, expected a Subset; make one with from_arrays(x, y).")
    if groups is not None and time is not None:
        raise ValueError("both groups and time were passed, expected one of them.")
    if groups is None and time is None:
        return Splits.from_arrays(subset, valid, test, seed=seed)
    sizes = {"test": test, "valid": valid}
    held_out, aside, train = parts(subset, sizes, groups=groups, time=time, seed=seed)
    return Splits(train, aside, held_out, subset.classes)


def parts(
    subset: Subset,
    sizes: dict[str, int | float],
    *,
    groups: Any = None,
    time: Any = None,
    seed: int,
    total: int | None = None,
) -> list[Subset]:
    """Moves whole groups, or the latest moments, to one side after the other.

    Args:
        subset: the rows.
        sizes: what errors call each side -> its rows (int), or a fraction of `total`.
        groups: as `split` takes it.
        time: likewise; one of the two is given.
        seed: of the order of the groups.
        total: rows that a fraction refers to, by default `len(subset)`.

    Returns:
        The sides in the order of `sizes`, then the rest.

    Raises:
        TypeError, ValueError: as `split`.
    """
    name, given = ("groups", groups) if time is None else ("time", time)
    units, counts = _units(name, _values(subset, name, given), len(sizes) + 1)
    total = len(subset) if total is None else total
    wanted = {what: _wanted(what, size, total) for what, size in sizes.items()}
    if name == "time":
        order = np.arange(len(counts))[::-1]
    else:
        order = np.random.default_rng(seed).permutation(len(counts))
        # A large group would be most of a side by itself, which would tell of it alone: it comes last.
        order = order[np.argsort(counts[order] > min(wanted.values()) / 2, kind="stable")]
    side, begin = np.full(len(counts), len(sizes)), 0
    for number, size in enumerate(wanted.values()):
        spare = len(sizes) - number  # units that the other sides need
        end = begin + _near(counts[order[begin : len(order) - spare]], size)
        side[order[begin:end]], begin = number, end
    return [subset.select(np.flatnonzero(side[units] == number)) for number in range(len(sizes) + 1)]


def sides_by_hash(units: np.ndarray, y: Any, valid: int | float, test: int | float, seed: int) -> np.ndarray:
    """Which rows train (0), validate (1) and test (2), by hashes alone: in whatever order the rows come.

    Args:
        units: `(n,)` uint64 hash of what must stay together: of the row itself, or of its group.
        y: labels; if they are class numbers, one per row, each class is split in proportion. A group counts as the
            class that most of its rows have.
        valid: validation rows: an int, or a fraction of all rows.
        test: test rows, likewise.
        seed: 0 to 2**32 - 1.

    Raises:
        ValueError: a class has rows of fewer than three units, or a size is out of range.
    """
    total = len(units)
    sizes = [(2, _wanted("test", test, total) / total), (1, _wanted("valid", valid, total) / total)]
    found, numbers, counts = np.unique(units, return_inverse=True, return_counts=True)
    classes = class_numbers(y)
    strata = np.zeros(len(found), int)
    if classes is not None:
        values, labels = np.unique(classes, return_inverse=True)
        pairs, members = np.unique(numbers * len(values) + labels, return_counts=True)
        ranked = np.lexsort((pairs, -members))[::-1]  # the last one written is the most frequent, the lowest of those
        strata[pairs[ranked] // len(values)] = pairs[ranked] % len(values)
    key = np.frombuffer(np.random.default_rng(seed).bytes(8), np.uint64)[0]
    mixed = _mixed(found ^ key)
    side = np.zeros(len(found), int)
    for stratum in np.unique(strata):
        own = np.flatnonzero(strata == stratum)
        if len(own) < 3:
            what = "the rows have" if classes is None else f"class {values[stratum]} has"
            raise ValueError(f"{what} {len(own)} rows or groups, expected at least 3: to train, validate and test.")
        order, begin, rows = own[np.argsort(mixed[own])], 0, counts[own].sum()
        for spare, (part, share) in zip((2, 1), sizes, strict=True):
            end = begin + _near(counts[order[begin : len(order) - spare]], share * rows)
            side[order[begin:end]], begin = part, end
    return side[numbers]


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Spread 64-bit numbers so that their order says nothing of what they were; splitmix64's last steps.

    Source: https://prng.di.unimi.it/splitmix64.c
    """
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(31))


def _values(subset: Subset, name: str, given: Any) -> np.ndarray:
    if isinstance(given, str):
        fields = subset.rows.parts if isinstance(subset.rows, NestedRows) else {}
        if not isinstance(fields, dict) or given not in fields:
            raise ValueError(f"{name} is {given!r}, expected an array or one of the inputs {list(fields)}.")
        given = fields[given].whole()
    values = np.asarray(given)
    if values.shape not in {(len(subset),), (len(subset), 1)}:
        raise ValueError(f"{name} has shape {values.shape}, expected ({len(subset)},): one value per row.")
    return values.reshape(-1)


def _units(name: str, values: np.ndarray, sides: int) -> tuple[np.ndarray, np.ndarray]:
    """The number of its unit for each row, in their order, and how many rows each has."""
    missing = np.array([value is None or value != value for value in values.tolist()]) | (
        np.isnat(values) if values.dtype.kind in "mM" else False
    )
    if missing.any():
        raise ValueError(f"{name} is missing in {missing.sum()} rows, first in row {missing.argmax()}.")
    units, numbers, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(units) < sides:
        raise ValueError(f"{name} has {len(units)} different values, expected at least {sides}, one for each side.")
    return numbers, counts


def _wanted(name: str, size: int | float, total: int) -> float:
    if isinstance(size, bool | np.bool_) or not isinstance(size, int | float | np.integer | np.floating):
        raise TypeError(f"{name} is {size!r}, expected a number of rows or a fraction between 0 and 1.")
    if isinstance(size, int | np.integer) and 1 <= size < total:
        return int(size)
    if isinstance(size, float | np.floating) and 0 < size < 1:
        return float(size) * total
    raise ValueError(f"{name} is {size!r}, expected 1 to {total - 1} rows, or a fraction between 0 and 1.")


def _near(counts: np.ndarray, wanted: float) -> int:
    """How many units come nearest to so many rows, at least one."""
    return int(np.abs(np.cumsum(counts) - wanted).argmin()) + 1
