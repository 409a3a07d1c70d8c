"""The check of arguments that count something."""

import operator
from numbers import Integral
from typing import Any


def check_counts(**counts: tuple[Any, int]) -> None:
    """Raise `ValueError` unless every argument, passed with its least value, is a whole number of at least that."""
    for name, (value, least) in counts.items():
        check_count(name, value, minimum=least)


def check_count(name: str, value: Any, *, minimum: int = 1) -> int:
    """Return a whole number of Python's or NumPy's as an `int`.

    Raises:
        ValueError: If it is no whole number, or below the minimum.

    Example:
        >>> check_count("epochs", 3)
        3
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise ValueError(f"{name}={value!r}: expected a whole number of at least {minimum}")
    return operator.index(value)
