"""`Splits`: the train, validation and test rows of one data set, and how rows are set aside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from masslib.data.subset import Subset


@dataclass(frozen=True, repr=False)
class Splits:
    """Train, validation and test `Subset` with the names of the classes (None if there are none).

    Attributes:
        train: rows to train on.
        valid: rows to watch the training with.
        test: rows for the final judgement.
        classes: names of the classes, or None.
        columns: names of the inputs' columns, if the rows come from a table, or None.
        skipped: files that could not be used, with the reason.

    Example:
        >>> from masslib.data import from_arrays
        >>> part = from_arrays(np.zeros((4, 2)), [0, 1, 2, 0])
        >>> splits = Splits(part, part.take(2), part.take(1), ["cat", "dog", "emu"])
        >>> splits
        Splits(train=4, valid=2, test=1, classes=['cat', ...])
        >>> splits.input_shape, splits.num_classes
        ((2,), 3)
    """

    train: Subset
    valid: Subset
    test: Subset
    classes: list[str] | None
    columns: list[str] | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        for name, value in parts.items():
            if not isinstance(value, Subset):
                raise TypeError(
                    f"{name} is a {type(value).__name__}, expected a Subset; make one with from_arrays(x, y)."
                )
        shapes = {name: value.input_shape for name, value in parts.items()}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"input shapes differ, {shapes}; expected one shape. Make all parts alike.")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch."""
        return self.train.input_shape

    @property
    def num_classes(self) -> int:
        """The number of classes: of `classes`, else the highest label plus one.

        Raises:
            ValueError: the labels are floats (regression).
        """
        if self.classes is not None:
            return len(self.classes)
        if self.train.y.dtype.kind == "f":
            raise ValueError("labels are floats (regression), expected class numbers; there is nothing to count.")
        return 1 + max(int(subset.y.max()) for subset in (self.train, self.valid, self.test))

    def __repr__(self) -> str:
        classes = None if self.classes is None else f"[{self.classes[0]!r}, ...]"
        counts = f"train={len(self.train)}, valid={len(self.valid)}, test={len(self.test)}"
        skipped = f", skipped={len(self.skipped)}" if self.skipped else ""
        return f"Splits({counts}, classes={classes}{skipped})"


def set_aside(
    subset: Subset, size: int | float, *, seed: int, name: str, total: int | None = None
) -> tuple[Subset, Subset]:
    """Sets rows aside, each class in proportion, by `sklearn.model_selection.train_test_split`.

    Args:
        subset: rows with class numbers.
        size: rows (int), or fraction of `total`, rounded up as scikit-learn does.
        seed: 0 to 2**32 - 1.
        name: what errors call `size`.
        total: rows that a fraction refers to, by default `len(subset)`.

    Returns:
        The rest, and the rows set aside.

    Raises:
        TypeError: `size` is no number.
        ValueError: `size` leaves a side with fewer rows than there are classes, or a class has a single row.

    Example:
        >>> from masslib.data import from_arrays
        >>> set_aside(from_arrays(np.zeros((8, 2)), [0, 1] * 4), 0.25, seed=0, name="test")
        (Subset(6 rows of (2,), float32, labels int32), Subset(2 rows of (2,), float32, labels int32))
    """
    from sklearn.model_selection import train_test_split

    if isinstance(size, bool | np.bool_) or not isinstance(size, int | float | np.integer | np.floating):
        raise TypeError(f"{name} is {size!r}, expected a number of rows or a fraction between 0 and 1.")
    total = len(subset) if total is None else total
    numbers, counts = np.unique(subset.y, return_counts=True)
    if counts.min() < 2:
        raise ValueError(
            f"class {numbers[counts.argmin()]} has 1 row left when {name} rows are set aside, expected at least 2, one "
            "for each side. Add rows of that class or leave it out."
        )
    least = len(numbers)
    most = len(subset) - least
    if isinstance(size, float | np.floating):
        count = math.ceil(float(size) * total) if 0 < size < 1 else 0
    else:
        count = int(size)
    if not least <= count <= most:
        raise ValueError(
            f"{name} is {size!r}, expected {least} to {most} rows, or a fraction between 0 and 1 of {total} "
            "rows that comes to as many (each class needs a row on both sides)."
        )
    rows = np.arange(len(subset))
    rest, aside = train_test_split(rows, test_size=count, stratify=subset.y, random_state=seed)
    return subset.select(rest), subset.select(aside)
