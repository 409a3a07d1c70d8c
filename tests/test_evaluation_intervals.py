"""Intervals cover the truth in 95 of 100 samples, alone and of differences on the same rows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from masslib.evaluation import difference, evaluate
from masslib.evaluation.intervals import jackknife, matched

SAMPLES = 300


class Echo:
    """A model whose outputs are its inputs."""

    def predict(self, x):
        return x


def run(outputs, y, **options):
    return evaluate(Echo(), (outputs, y), **options)


def covered(intervals, truth):
    return np.mean([low <= truth <= high for low, high in intervals])


# Of 300 samples at 95 % between 92 and 98 % are covered, but for one in 150.
def about_95(share):
    return 0.915 <= share <= 0.985


@pytest.mark.parametrize(("gained", "lost"), [(0.02, 0.02), (0.05, 0.01), (0.004, 0.001)])
def test_the_paired_interval_of_accuracies_covers_the_truth(gained, lost):
    rng, found = np.random.default_rng(0), []
    for _ in range(2000):
        draw = rng.random(500)
        one, other = draw < gained + 0.8, (draw >= gained) & (draw < gained + 0.8) | (draw > 1 - lost)
        found.append(matched(one, other))
    assert 0.935 <= covered(found, gained - lost) <= 0.99


def sample(rng, n, figure):
    """Two models' outputs for the same rows, the second a little worse."""
    if figure in ("mae", "rmse", "r2"):
        y = rng.normal(size=(n, 1))
        noise = rng.normal(size=(n, 1))
        return y, y + 0.5 * noise, y + 0.5 * noise + 0.3 * rng.normal(size=(n, 1)), "regression"
    if figure == "mean_iou":
        y = rng.integers(0, 3, (n, 1)) * np.ones((1, 9), int)  # pixels of a row are alike
        hard = rng.normal(size=(n, 1, 3))
        one = np.eye(3)[y] + hard * np.ones((1, 9, 1))
        return y, one, one + 0.5 * rng.normal(size=(n, 9, 3)), "segmentation"
    y = rng.integers(0, 3, n)
    one = np.eye(3)[y] + rng.normal(size=(n, 3))
    return y, one, one + 0.7 * rng.normal(size=(n, 3)), "multiclass"


@pytest.mark.slow
@pytest.mark.parametrize("n", [60, pytest.param(900, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize(
    "figure",
    ["mae", "auc", *(pytest.param(it, marks=pytest.mark.exhaustive) for it in ("macro_f1", "rmse", "r2", "mean_iou"))],
)
def test_the_jackknife_covers_the_truth(figure, n):
    rng = np.random.default_rng(1)
    y, one, other, task = sample(rng, 60_000, figure)
    if figure == "mean_iou":
        one, other, y = one[:, None], other[:, None], y[:, None]
    truth = getattr(run(one, y, task=task), figure)
    gap = truth - getattr(run(other, y, task=task), figure)
    alone, paired = [], []
    for _ in range(SAMPLES):
        rows = rng.integers(0, len(y), n)
        first, second = (run(it[rows], y[rows], task=task) for it in (one, other))
        alone.append(first.intervals[figure])
        paired.append(difference(first, second, figure)[1:])
    assert about_95(covered(alone, truth)), covered(alone, truth)
    assert about_95(covered(paired, gap)), covered(paired, gap)
    widths = [np.median([high - low for low, high in found]) for found in (paired, alone)]
    assert widths[0] < widths[1]


def test_a_mean_has_the_interval_of_students_t():
    values = np.random.default_rng(0).exponential(size=100)
    without = (values.sum() - values) / 99
    half = 1.9842169515086827 * values.std(ddof=1) / 10
    assert jackknife(values.mean(), without, 100) == pytest.approx((values.mean() - half, values.mean() + half))


def test_weights_and_the_same_rows_matter():
    rng = np.random.default_rng(0)
    y, one, other, _ = sample(rng, 500, "accuracy")
    plain = evaluate(Echo(), (one, y))
    twice = evaluate(Echo(), (one, y, np.full(500, 2.0)))
    assert twice.metrics == pytest.approx(plain.metrics)
    assert twice.accuracy_interval == pytest.approx(plain.accuracy_interval, abs=0.003)
    gap, low, high = difference(plain, run(other, y))
    assert low < gap < high and high - low < np.ptp(plain.accuracy_interval)
    assert difference(plain, plain)[0] == 0 and difference(plain, plain, "auc")[1:] == (0, 0)
    with pytest.raises(ValueError, match="cannot compare 'mae' of .* expected the same data and task"):
        difference(plain, plain, "mae")
    with pytest.raises(ValueError, match="expected the same data"):
        difference(plain, run(one[1:], y[1:]))
    assert all(map(math.isnan, run(one[:3], np.arange(3)).intervals["auc"])) is False
