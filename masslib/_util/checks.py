"""The check of arguments that count something."""

from numbers import Integral
from typing import Any


def check_counts(**counts: tuple[Any, int]) -> None:
    """Raise `ValueError` unless every argument, passed with its least value, is a whole number of at least that."""
    for name, (value, least) in counts.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name}={value!r}: expected a whole number of at least {least}")
