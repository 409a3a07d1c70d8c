from __future__ import annotations

import numpy as np
import pytest

from masslib import plot

KERNEL = np.random.default_rng(0).normal(size=(100, 50))
PRUNED = np.where(np.abs(KERNEL) < 1, 0, KERNEL)


def test_weights_counts_every_weight_once_and_tells_zeros_and_distinct_values():
    figure = plot.weights({"before": KERNEL, "after": PRUNED})
    notes = [ax.texts[0].get_text() for ax in figure.axes]
    zeros = (PRUNED == 0).mean()
    assert notes == [
        "no zeros, 5,000 distinct values",
        f"{100 * zeros:.1f} % zeros, {len(np.unique(PRUNED)):,} distinct values",
    ]
    for ax in figure.axes:
        assert sum(bar.get_height() for bar in ax.patches) == KERNEL.size
    colors = [{bar.get_facecolor() for bar in ax.patches} for ax in figure.axes]
    assert [len(found) for found in colors] == [1, 2]


def test_weights_has_the_same_axes_in_all_panels():
    figure = plot.weights({"wide": KERNEL, "narrow": KERNEL / 10, "pruned": PRUNED})
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in figure.axes}) == 1
    assert figure.axes[0].get_yscale() == "log"
    low, high = figure.axes[0].get_xlim()
    assert low < KERNEL.min() < KERNEL.max() < high


def test_weights_within_limits_shows_the_steps_of_quantized_values():
    step = 0.1
    ax = plot.weights({"int8": step * np.round(KERNEL / step)}, limits=(-0.25, 0.25)).axes[0]
    assert ax.get_xlim() == (-0.25, 0.25)
    centres = [bar.get_x() + bar.get_width() / 2 for bar in ax.patches if bar.get_height()]
    np.testing.assert_allclose(sorted(centres), [-0.2, -0.1, 0, 0.1, 0.2], atol=0.002)


def test_weights_of_a_window_may_have_a_plain_axis():
    ax = plot.weights({"a": KERNEL}, limits=(-0.25, 0.25), log=False).axes[0]
    assert (ax.get_yscale(), ax.get_ylabel(), ax.get_ylim()[0]) == ("linear", "Weights", 0)


@pytest.mark.parametrize(
    ("kernels", "options", "error", "words"),
    [
        (KERNEL, {}, TypeError, "kernels is a ndarray; expected a dict from title to weights"),
        ({}, {}, ValueError, "kernels is empty"),
        ({"a": []}, {}, ValueError, r"kernels\['a'\] has 0 values; expected at least one"),
        ({"a": [np.nan]}, {}, ValueError, r"kernels\['a'\] has 1 values; .* all of them finite"),
        ({"a": KERNEL}, {"limits": (1, -1)}, ValueError, r"limits=\(1, -1\): expected the lower one first"),
    ],
)
def test_weights_errors(kernels, options, error, words):
    with pytest.raises(error, match=words):
        plot.weights(kernels, **options)
