"""`Replaces`: a gate that a new version of a model must pass, on old and on new data."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from masslib import runtime
from masslib._util import manifest
from masslib.evaluation import Evaluation, difference, evaluate
from masslib.evaluation.result import FIGURES, SMALL_IS_GOOD
from masslib.packaging._golden import check_format


class Refused(ValueError):
    """That a new version is worse than the one before, where it must not be."""


@dataclass(frozen=True)
class Replaces:
    """The version that a package takes the place of, and where the new one must not be worse.

    Each new file answers the same rows as the file of the same format in the old package, or as its first file where it
    has none of that format. The difference is taken row by row, with its 95 % interval.

    Args:
        folder: The package of the version before; it may be the one that is replaced.
        on: Name -> rows that matter, a `Subset` or `(x, y)`: those of earlier months, a rare class, one kind of user.
            The test split counts anyway, as "test".
        margin: None refuses a version that is *shown to be worse*: the whole interval is on the bad side of zero. A
            number refuses one that is *not shown to be nearly as good*: the interval reaches beyond a loss of `margin`,
            in the unit of the figure (non-inferiority). The latter needs many rows to be passed.
        figure: What they are judged by; by default the first of the task, such as `"accuracy"` or `"mae"`.

    References:
        Walker & Nowacki (2011), Understanding equivalence and noninferiority testing. Intervals:
        `masslib.evaluation.difference`.

    Example:
        >>> Replaces("build/digits/1", on={}, margin=0.01).margin
        0.01
    """

    folder: str | os.PathLike[str]
    on: Mapping[str, Any] = field(default_factory=dict)
    margin: float | None = None
    figure: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.on, Mapping) or "test" in self.on:
            raise ValueError('on= is a dict of name -> rows; the name "test" is that of the test split')
        if self.margin is not None and not (math.isfinite(self.margin) and self.margin >= 0):
            raise ValueError(f"margin={self.margin!r}: expected None or a loss of at least 0")

    def check(self, files: Mapping[str, Path], test: Any, told: Mapping[str, Any]) -> dict[str, Any]:
        """Compare new files with the old ones.

        Args:
            files: Format -> new file.
            test: The test split.
            told: `task`, and `ignore_class` if there is one, as `evaluate` takes them.

        Returns:
            What the manifest says of it: the old package, and for each file and data set the gain and its interval.

        Raises:
            Refused: The new version is worse somewhere; all such places are named.
            ValueError: The folder is no whole package, or there is no interval.
        """
        before = Path(self.folder)
        facts = manifest.read(before)
        check_format(facts, before)
        old = {name: before / entry["file"] for name, entry in facts["models"].items()}
        rows, gains = {"test": test, **self.on}, []
        for name, path in files.items():
            kind = name if name in old else next(iter(old))
            for where, data in rows.items():
                figure, gain, low, high = self._gain(path, old[kind], data, told, where)
                gains.append(
                    {
                        "file": name,
                        "against": kind,
                        "on": where,
                        "figure": figure,
                        "gain": gain,
                        "low": low,
                        "high": high,
                    }
                )
        worse = [it for it in gains if (it["high"] < 0 if self.margin is None else it["low"] < -self.margin)]
        if worse:
            places = "; ".join(
                "{file} on {on!r}: {figure} better by {gain:.4g} [{low:.4g}, {high:.4g}]".format(**it) for it in worse
            )
            rule = "is worse than" if self.margin is None else f"is not shown to be within {self.margin:g} of"
            raise Refused(
                f"the new version {rule} {before}: {places}. Nothing was written; train it on rows like these as well, "
                "or leave out what does not matter"
            )
        digest = manifest.checksum(before / "manifest.json")
        return {"name": facts["name"], "manifest_sha256": digest, "margin": self.margin, "gains": gains}

    def _gain(
        self, new: Path, old: Path, data: Any, told: Mapping[str, Any], where: str
    ) -> tuple[str, float, float, float]:
        """Name of the figure, how much better the new file is by it, and the interval of that."""
        found = []
        for path in (new, old):
            with runtime.load(path) as predictor:
                found.append(evaluate(predictor, data, **told))
        if not all(isinstance(it, Evaluation) for it in found):
            raise ValueError("replaces= judges models with one output; compare the outputs of this one by themselves")
        figure = self.figure or FIGURES[found[0].task][0]
        gap, low, high = difference(*found, figure)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"{figure!r} on {where!r} has no interval; choose another figure=, or more rows")
        return (figure, -gap, -high, -low) if figure in SMALL_IS_GOOD else (figure, gap, low, high)
