"""What a model saw and answered when it was packaged, in bins, and how far later rows are from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_BINS = 10
# What is added to every bin before logarithms are taken, for an empty one would make PSI infinite.
_SMOOTHING = 0.5


def features(inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return a few numbers per row that tell whether rows come from the same world.

    Args:
        inputs: Arrays `(n, ...)`, one per input of the model.
        outputs: Arrays `(n, ...)`, one per output.

    Returns:
        Name -> `(n,)`: mean and spread of every input; of an output of probabilities the largest (`confidence`) and
        where it stands (`class`), of any other output the mean.
    """
    found: dict[str, np.ndarray] = {}
    for k, array in enumerate(inputs):
        rows, suffix = array.reshape(len(array), -1), f" {k}" if len(inputs) > 1 else ""
        if rows.dtype.kind in "fiub":
            mean = rows.mean(axis=1, dtype=np.float32)
            found[f"input mean{suffix}"] = mean
            if rows.dtype == np.float32 and rows.shape[1] > 1:
                square = np.einsum("ij,ij->i", rows, rows) / np.float32(rows.shape[1])
                found[f"input spread{suffix}"] = np.sqrt(np.maximum(square - mean * mean, 0))
    for k, array in enumerate(outputs):
        suffix = f" {k}" if len(outputs) > 1 else ""
        if array.dtype.kind == "f" and array.ndim == 2 and array.shape[1] > 1:
            found[f"confidence{suffix}"] = array.max(axis=1)
            found[f"class{suffix}"] = array.argmax(axis=1)
        elif array.dtype.kind in "fiu":
            found[f"answer{suffix}"] = array.reshape(len(array), -1).mean(axis=1, dtype=np.float32)
    return found


def describe(inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> dict[str, dict[str, Any]]:
    """Return the distribution of the features over some rows, as a manifest can hold it.

    Returns:
        Name -> `counts` of rows per bin, and `edges` between the bins, by deciles; classes are their own bins.

    Example:
        >>> x, y = np.linspace(0, 1, 40, dtype="float32").reshape(20, 2), np.eye(4, dtype="float32")[[0, 1] * 10]
        >>> describe([x], [y])["class"]
        {'counts': [10, 10, 0, 0]}
    """
    told: dict[str, dict[str, Any]] = {}
    for name, values in features(inputs, outputs).items():
        if name.startswith("class"):
            counts = np.bincount(values, minlength=_classes(name, outputs))
            told[name] = {"counts": counts.tolist()}
            continue
        edges = np.unique(np.quantile(values.astype(np.float64), np.linspace(0, 1, _BINS + 1)[1:-1]))
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
        told[name] = {"edges": edges.tolist(), "counts": counts.tolist()}
    return told


def _classes(name: str, outputs: Sequence[np.ndarray]) -> int:
    number = name.removeprefix("class").strip()
    return outputs[int(number) if number else 0].shape[1]


class Bins:
    """The bins of a reference one after the other, to count rows in one array.

    Args:
        reference: What `describe` returned.

    Attributes:
        size: How many bins there are in all.
        reference: The counts of the reference `(size,)`.

    Raises:
        ValueError: If it is no reference.
    """

    def __init__(self, reference: Mapping[str, Mapping[str, Any]]):
        self._parts: dict[str, tuple[slice, np.ndarray | None]] = {}
        counts: list[int] = []
        try:
            for name, entry in reference.items():
                start = len(counts)
                counts += [int(count) for count in entry["counts"]]
                edges = np.asarray(entry["edges"], np.float64) if "edges" in entry else None
                if edges is not None and (edges.ndim != 1 or len(edges) + 1 != len(entry["counts"])):
                    raise ValueError(f"{name} has {len(entry['counts'])} bins and edges of shape {edges.shape}")
                self._parts[name] = (slice(start, len(counts)), edges)
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"the reference distribution is none: {error!r}; package the model again") from error
        self.size, self.reference = len(counts), np.asarray(counts, np.int64)

    def classes(self) -> dict[str, slice]:
        """Where the bins of each output of classes stand."""
        return {name: where for name, (where, _) in self._parts.items() if name.startswith("class")}

    def count(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> np.ndarray:
        """Return how many rows fall into each bin `(size,)`."""
        total = np.zeros(self.size, np.int64)
        for name, values in features(inputs, outputs).items():
            if name in self._parts:
                where, edges = self._parts[name]
                bins = values if edges is None else np.searchsorted(edges, values, side="right")
                total[where] += np.bincount(bins, minlength=where.stop - where.start)
        return total

    def distances(self, counts: np.ndarray) -> dict[str, dict[str, float]]:
        """Compare counts `(size,)` with the reference.

        Returns:
            Feature -> `psi`, the population stability index (0.1 is a small change, 0.25 a large one; Siddiqi, "Credit
            Risk Scorecards", 2006), `ks`, the Kolmogorov-Smirnov distance over the bins, and `rows`.
        """
        found = {}
        for name, (where, _) in self._parts.items():
            expected, got = _shares(self.reference[where]), _shares(counts[where])
            psi = float(((got - expected) * np.log(got / expected)).sum())
            ks = float(np.abs(np.cumsum(got - expected)).max())
            found[name] = {"psi": round(psi, 4), "ks": round(ks, 4), "rows": int(counts[where].sum())}
        return found


def _shares(counts: np.ndarray) -> np.ndarray:
    smooth = counts + _SMOOTHING
    return smooth / smooth.sum()
