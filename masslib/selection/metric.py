"""`Metric`: the figure that `compare`, `search`, `fastest` and `sensitivity` judge by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from masslib.evaluation import Evaluation, Evaluations, difference, evaluate
from masslib.evaluation.intervals import groups_of, jackknife
from masslib.evaluation.outputs import pieces, source_of
from masslib.evaluation.result import FIGURES, SMALL_IS_GOOD, UNITS

if TYPE_CHECKING:
    from masslib.data import Subset

# Groups of rows that a function is computed without, one by one, for its interval
_GROUPS = 50


@dataclass(frozen=True)
class Score:
    """What a metric says of one model.

    Attributes:
        value: The figure.
        low: Lower bound of its 95 % interval; NaN without one.
        high: Upper bound.
        evaluation: All figures; None where a function judges.
        without: The figure without each group of rows; None where it has no interval.
        units: How many rows there are.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    evaluation: Evaluation | Evaluations | None = None
    without: np.ndarray | None = None
    units: int = 0


class Metric:
    """A figure to judge models by, with all that `evaluate` needs to know for it.

    Wherever a metric is expected, its figure alone will do: `metric="mae"`.

    Args:
        figure: One of
            - the name of a figure of the task, such as `"accuracy"`, `"auc"`, `"mae"`, `"mean_iou"`, `"perplexity"`; of
              one of several outputs with its name, as `"price/mae"`;
            - a weighted sum of figures, such as `{"kind/accuracy": 1, "price/mae": -0.01}`, larger being better;
            - a function of labels and outputs `(n, ...)` (of several outputs dicts by name) that returns a number,
              such as those of `sklearn.metrics`.
        larger_is_better: By default what the figure says of itself; of functions and sums True.
        **options: `task`, `ignore_class`, `groups`, `k` or `batch_size` as in `masslib.evaluate`; by default what the
            compiled loss of the model tells.

    Raises:
        TypeError: If the figure is none of these.

    Example:
        >>> Metric("mae").larger_is_better, Metric("auc").larger_is_better
        (False, True)
        >>> Metric("ndcg_at_k", task="ranking", k=5)
        Metric('ndcg_at_k', task='ranking', k=5)
    """

    def __init__(
        self,
        figure: str | Mapping[str, float] | Callable[[Any, Any], float] = "accuracy",
        *,
        larger_is_better: bool | None = None,
        **options: Any,
    ):
        if not isinstance(figure, str | Mapping) and not callable(figure):
            raise TypeError(f"metric={figure!r}: expected the name of a figure, a dict of weights, or a function")
        self._figure, self._options, self._told = figure, options, larger_is_better
        self._weights: Mapping[str, float] = {}
        if isinstance(figure, str):
            self._weights, self.name = {figure: 1}, figure
        elif isinstance(figure, Mapping):
            self._weights, self.name = dict(figure), " + ".join(f"{weight:g} {key}" for key, weight in figure.items())
        else:
            self.name = getattr(figure, "__name__", type(figure).__name__)
        known = [key.rpartition("/")[2] for key in self._weights]
        unknown = [
            key for key in known if key not in (*SMALL_IS_GOOD, *(it for them in FIGURES.values() for it in them))
        ]
        if unknown or (not known and not callable(figure)):
            names = sorted({*SMALL_IS_GOOD, *(it for them in FIGURES.values() for it in them)})
            raise ValueError(f"metric={figure!r}: expected figures of masslib.evaluate, such as {', '.join(names)}")
        single = isinstance(figure, str)
        self.larger_is_better = larger_is_better is None and not (single and known[0] in SMALL_IS_GOOD)
        if larger_is_better is not None:
            self.larger_is_better = larger_is_better
        self.is_fraction = single and known[0] not in UNITS

    @classmethod
    def of(cls, metric: Any) -> Metric:
        """A metric, from what stands for one."""
        return metric if isinstance(metric, Metric) else cls(metric)

    @property
    def drop_column(self) -> str:
        """What tables call the loss: in percentage points of fractions, else in the unit of the figure."""
        return "drop_points" if self.is_fraction else "drop"

    @property
    def points(self) -> int:
        """100 where losses are told in percentage points, else 1."""
        return 100 if self.is_fraction else 1

    def score(self, model: Any, data: Subset | tuple[Any, ...], told: Mapping[str, Any], **options: Any) -> Score:
        """Judge a model or a file.

        Args:
            model: As for `masslib.evaluate`.
            data: As for `masslib.evaluate`.
            told: Options of `evaluate` that the compiled loss tells; those passed to the metric come first.
            options: As for `masslib.evaluate`.

        Raises:
            ValueError: If the task does not have the figure, or it is not a number for these data.
        """
        if not self._weights:
            return self._called(model, data, options.get("batch_size") or self._options.get("batch_size", 256))
        found = evaluate(model, data, **{**told, **options, **self._options})
        parts = [(weight, *_figure(found, key)) for key, weight in self._weights.items()]
        value = sum(weight * getattr(one, name) for weight, one, name in parts)
        if not math.isfinite(value):
            raise ValueError(
                f"{self.name} is {value} for these data, which nothing can be judged by; pass another metric="
            )
        if isinstance(self._figure, str) and parts[0][0] == 1:
            _, one, name = parts[0]
            low, high = one.intervals.get(name, (math.nan, math.nan))
            return Score(float(value), low, high, found, one.without.get(name), one.units)
        spread = [one.without.get(name) for _, one, name in parts]
        if any(it is None for it in spread) or len({one.units for _, one, _ in parts}) > 1:
            return Score(float(value), evaluation=found)
        without = sum(weight * it for (weight, *_), it in zip(parts, spread, strict=True))
        units = parts[0][1].units
        return Score(float(value), *jackknife(value, without, units), found, without, units)

    def loss(self, score: Score, baseline: Score) -> float:
        """How much worse a model is than the baseline; below 0 if it is better."""
        return (baseline.value - score.value) * (1 if self.larger_is_better else -1)

    def loss_interval(self, score: Score, baseline: Score) -> tuple[float, float]:
        """The paired 95 % interval of the loss, both being judged on the same rows; NaN where there is none."""
        one, other = (baseline, score) if self.larger_is_better else (score, baseline)
        if isinstance(self._figure, str) and one.evaluation is not None and other.evaluation is not None:
            (first, name), (second, _) = (_figure(it.evaluation, self._figure) for it in (one, other))
            return difference(first, second, name)[1:]
        if one.without is None or other.without is None:
            return math.nan, math.nan
        return jackknife(one.value - other.value, one.without - other.without, one.units)

    def _called(self, model: Any, data: Any, batch_size: int) -> Score:
        seen = list(pieces(model, source_of(data), batch_size))
        y, outputs = (
            {name: np.concatenate([part(piece)[name] for piece in seen]) for name in part(seen[0])}
            for part in (attrgetter("y"), attrgetter("outputs"))
        )
        n = len(next(iter(outputs.values())))

        def figure(rows: np.ndarray | slice) -> float:
            some = [{name: array[rows] for name, array in part.items()} for part in (y, outputs)]
            return float(self._figure(*(part[""] if list(part) == [""] else part for part in some)))

        value = figure(slice(None))
        if not math.isfinite(value):
            raise ValueError(f"{self.name} is {value} for these data, which nothing can be judged by")
        groups = groups_of(n, _GROUPS)
        without = np.array([figure(groups != group) for group in np.unique(groups)]) if n > 1 else None
        if without is None:
            return Score(value)
        return Score(value, *jackknife(value, without, n), None, without, n)

    def __repr__(self) -> str:
        shown = repr(self._figure) if self._weights else self.name
        told = {} if self._told is None else {"larger_is_better": self._told}
        return f"Metric({', '.join([shown, *(f'{k}={v!r}' for k, v in (told | self._options).items())])})"


def mean_score(scores: Iterable[Score]) -> Score:
    """The mean of the scores of several models on the same rows."""
    scores = list(scores)
    if len(scores) == 1:
        return scores[0]
    value, units = float(np.mean([it.value for it in scores])), scores[0].units
    if any(it.without is None for it in scores):
        return Score(value)
    without = np.mean([it.without for it in scores], axis=0)
    return Score(value, *jackknife(value, without, units), None, without, units)


def _figure(found: Evaluation | Evaluations | None, key: str) -> tuple[Evaluation, str]:
    """The evaluation of an output, and the name of its figure."""
    output, _, name = key.rpartition("/")
    if isinstance(found, Evaluations):
        one, known = found.get(output), list(found.metrics)
    else:
        one, known = (found if not output else None), list(found.metrics)
    if one is None or getattr(one, name, None) is None:
        raise ValueError(f"metric={key!r}: the model is judged by {', '.join(known)}; pass one of these as metric=")
    return one, name
