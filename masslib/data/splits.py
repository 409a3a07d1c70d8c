"""`Splits`: the train, validation and test rows of one data set, and how rows are set aside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from masslib.data.arrays import from_arrays
from masslib.data.subset import Subset, class_numbers


@dataclass(frozen=True, repr=False)
class Splits:
    """Train, validation and test `Subset` with the names of the classes (None if there are none).

    Attributes:
        train: rows to train on.
        valid: rows to watch the training with.
        test: rows for the final judgement.
        classes: names of the classes, or None; of several labels in their structure.
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
    classes: Any
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
        if any(shape != self.train.input_shape for shape in shapes.values()):
            raise ValueError(f"input shapes differ, {shapes}; expected one shape. Make all parts alike.")

    @classmethod
    def from_arrays(
        cls,
        train: Subset | tuple[Any, ...],
        valid: Subset | tuple[Any, ...] | int | float = 0.1,
        test: Subset | tuple[Any, ...] | int | float = 0.2,
        *,
        classes: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        scale: float | Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> Splits:
        """Makes `Splits` of arrays: three pairs `(x, y)` (with weights, triples), or one of which rows are set aside.

        Where labels are whole numbers, one per row, each class is split in proportion
        (`sklearn.model_selection.train_test_split`).

        Args:
            train: `(x, y)` or `(x, y, sample_weight)`, or a `Subset`, as those that `from_dataframe` and `from_dataset`
                make.
            valid: the same, or how many rows of `train` to set aside: an int, or a fraction of all rows.
            test: the same.
            classes: names of the classes, see `masslib.data.from_arrays`; by default those of a `Subset`.
            scale: see `masslib.data.from_arrays`.
            seed: of the split, 0 to 2**32 - 1.

        Returns:
            The parts, the same for the same seed.

        Raises:
            TypeError: a part is none of these.
            ValueError: too few rows of a class; and as `masslib.data.from_arrays`.

        Example:
            >>> x, y = np.zeros((100, 4)), np.arange(100) % 2
            >>> Splits.from_arrays((x, y), classes=["even", "odd"])
            Splits(train=70, valid=10, test=20, classes=['even', ...])
        """

        def part(name: str, data: Any) -> Any:
            if isinstance(data, Subset):
                return data
            if isinstance(data, tuple | list) and len(data) in (2, 3):
                return from_arrays(*data, classes=classes, scale=scale)
            if name == "train":
                raise TypeError(f"train is a {type(data).__name__}, expected a pair of arrays (x, y) or a Subset.")
            return data

        rest, aside, held_out = part("train", train), part("valid", valid), part("test", test)
        total = len(rest)
        if not isinstance(held_out, Subset):
            rest, held_out = set_aside(rest, held_out, seed=seed, name="test", total=total)
        if not isinstance(aside, Subset):
            rest, aside = set_aside(rest, aside, seed=seed, name="valid", total=total)
        return cls(rest, aside, held_out, rest.classes)

    @property
    def input_shape(self) -> Any:
        """Shape of one input, without the batch; of several inputs a structure of shapes."""
        return self.train.input_shape

    @property
    def num_classes(self) -> Any:
        """The number of classes: of `classes`, else the highest label plus one; of several labels in their structure.

        Raises:
            ValueError: the labels are not whole numbers, one per row.
        """
        parts = [subset.y for subset in (self.train, self.valid, self.test)]
        return _counted(self.classes, parts)

    def __repr__(self) -> str:
        counts = f"train={len(self.train)}, valid={len(self.valid)}, test={len(self.test)}"
        skipped = f", skipped={len(self.skipped)}" if self.skipped else ""
        return f"Splits({counts}, classes={_begun(self.classes)}{skipped})"


def _counted(classes: Any, parts: Sequence[Any]) -> Any:
    if isinstance(classes, list):
        return len(classes)
    y = parts[0]
    if isinstance(y, dict):
        return {key: _counted((classes or {}).get(key), [part[key] for part in parts]) for key in y}
    if isinstance(y, tuple):
        return tuple(_counted(classes and classes[k], [part[k] for part in parts]) for k in range(len(y)))
    numbers = [class_numbers(part) for part in parts]
    if any(part is None for part in numbers):
        raise ValueError(
            "labels are floats, absent or several per row, expected class numbers; there is nothing to count. Name "
            "the classes, with classes=[...], if there are any."
        )
    return 1 + max(int(part.max()) for part in numbers)


def _begun(classes: Any) -> str:
    """The first name of the classes, of several labels in their structure."""
    if isinstance(classes, dict):
        return "{" + ", ".join(f"{label!r}: {_begun(names)}" for label, names in classes.items()) + "}"
    if isinstance(classes, tuple):
        return f"({', '.join(map(_begun, classes))})"
    return "None" if classes is None else f"[{classes[0]!r}, ...]"


def set_aside(
    subset: Subset, size: int | float, *, seed: int, name: str, total: int | None = None
) -> tuple[Subset, Subset]:
    """Sets rows aside by `sklearn.model_selection.train_test_split`.

    Args:
        subset: rows; each class is split in proportion if the labels are whole numbers, one per row.
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
        (Subset(6 rows of (2,), float32, labels int64), Subset(2 rows of (2,), float32, labels int64))
    """
    from sklearn.model_selection import train_test_split

    if isinstance(size, bool | np.bool_) or not isinstance(size, int | float | np.integer | np.floating):
        raise TypeError(f"{name} is {size!r}, expected a number of rows or a fraction between 0 and 1.")
    total = len(subset) if total is None else total
    classes = class_numbers(subset.y)
    least = 1 if classes is None else _least(classes, name)
    most = len(subset) - least
    if isinstance(size, float | np.floating):
        count = math.ceil(float(size) * total) if 0 < size < 1 else 0
    else:
        count = int(size)
    if not least <= count <= most:
        needs = "each class needs a row on both sides" if classes is not None else "both sides need a row"
        raise ValueError(
            f"{name} is {size!r}, expected {least} to {most} rows, or a fraction between 0 and 1 of {total} "
            f"rows that comes to as many ({needs})."
        )
    rest, aside = train_test_split(np.arange(len(subset)), test_size=count, stratify=classes, random_state=seed)
    return subset.select(rest), subset.select(aside)


def _least(classes: np.ndarray, name: str) -> int:
    """How many classes there are, if each has rows for both sides."""
    numbers, counts = np.unique(classes, return_counts=True)
    if counts.min() < 2:
        raise ValueError(
            f"class {numbers[counts.argmin()]} has 1 row left when {name} rows are set aside, expected at least 2, one "
            "for each side. Add rows of that class or leave it out; quantities are no classes: pass them as floats."
        )
    return len(numbers)
