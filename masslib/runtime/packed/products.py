"""Scales that follow from others: those of a bias are those of its kernel times the scale of the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from masslib.runtime.packed.fields import Fields

_ULPS = 2


@dataclass(frozen=True)
class Product:
    """Another region of the file times one number, in float32.

    Attributes:
        source: The place of the other region in their list; it is no product itself.
        factor: The number, of shape (1,).
    """

    source: int
    factor: np.ndarray
    number = 5

    def write(self, fields: Fields) -> None:
        """Append both to the head of a file."""
        fields.number(self.source)
        fields.add(self.factor.tobytes())

    @classmethod
    def read(cls, fields: Fields, regions: int) -> Product:
        """Take both from there."""
        return cls(fields.number_up_to(regions - 1), np.frombuffer(fields.piece(4), "<f4"))

    def values(self, of: np.ndarray) -> np.ndarray:
        """The numbers of the region."""
        with np.errstate(all="ignore"):
            return of * self.factor


def products(values: Sequence[np.ndarray]) -> dict[int, Product]:
    """Find the arrays that are others times a number; of such a pair the earlier one counts as the source.

    Args:
        values: All regions of a file.

    Returns:
        Place in the list -> the product.
    """
    found: dict[int, Product] = {}
    scales = [place for place, array in enumerate(values) if array.dtype == "<f4" and len(array) == 1]
    for place in scales:
        for source in scales:
            if source >= place:
                break
            if source in found or values[source].size != values[place].size or not values[source].all():
                continue
            if (factor := _factor(values[source].ravel(), values[place].ravel())) is not None:
                found[place] = Product(source, factor)
                break
    return found


def _factor(source: np.ndarray, product: np.ndarray) -> np.ndarray | None:
    with np.errstate(all="ignore"):
        factor = product[:1] / source[:1]
        for _ in range(_ULPS):
            factor = np.nextafter(factor, np.float32(-np.inf))
        for _ in range(2 * _ULPS + 1):
            if np.isfinite(factor[0]) and np.array_equal(source * factor, product):
                return factor
            factor = np.nextafter(factor, np.float32(np.inf))
    return None
