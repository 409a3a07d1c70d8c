from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from masslib import plot

TABLE = pd.DataFrame(
    {
        "gzipped_kb": [1500.0, 400.0, 405.0, 390.0, 60.0, 62.0],
        "accuracy": [0.905, 0.905, 0.904, 0.900, 0.897, 0.896],
        "median_ms": [0.0706, 0.0258, 1.25, np.nan, 0.05, 0.06],
    },
    index=["float", "int8", "dynamic", "pruned", "all", "all, twice"],
)


def tick_labels(axis):
    axis.axes.figure.draw_without_rendering()
    return [t.get_text() for t in axis.get_ticklabels()]


def labels(ax):
    return {t.xy: t.get_text() for t in ax.texts if t.xycoords == "data"}


def test_tradeoff_names_every_point_with_its_latency():
    ax = plot.tradeoff(TABLE).axes[0]
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), TABLE[["gzipped_kb", "accuracy"]])
    notes = ["float, 71 µs", "int8, 26 µs", "dynamic, 1.2 ms", "pruned", "all, 50 µs", "all, twice, 60 µs"]
    assert labels(ax) == dict(zip(map(tuple, TABLE[["gzipped_kb", "accuracy"]].values), notes, strict=True))
    assert ax.get_xscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Gzipped size (kB), log scale", "Test accuracy")
    assert ax.get_title("left") == "Test accuracy against gzipped size"
    assert all(text.endswith(" %") for text in tick_labels(ax.yaxis))


def test_tradeoff_marks_the_points_that_none_beats():
    ax = plot.tradeoff(TABLE).axes[0]
    drawn = ax.collections[0].get_facecolors()
    beaten = [(drawn[i] == drawn[0]).all() for i in range(len(TABLE))]
    assert beaten == [True, False, True, False, False, True]


def test_tradeoff_baseline_is_a_line_at_its_quality():
    line = plot.tradeoff(TABLE).axes[0].get_lines()[0]
    assert set(line.get_ydata()) == {0.905}
    assert line.get_linestyle() == "--"
    other = plot.tradeoff(TABLE, baseline="all").axes[0]
    assert set(other.get_lines()[0].get_ydata()) == {0.897}
    assert any("dashed: all;" in t.get_text() for t in other.texts)


def test_tradeoff_shades_the_interval_of_the_baseline_within_the_axis():
    plain, shaded = plot.tradeoff(TABLE).axes[0], plot.tradeoff(TABLE.assign(low=0.899, high=0.95)).axes[0]
    (band,) = shaded.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == (0.899, 0.95)
    assert not plain.patches and plain.get_ylim() == shaded.get_ylim()
    assert any("dashed: float and its 95 % interval;" in t.get_text() for t in shaded.texts)


def test_tradeoff_shows_what_is_not_accepted():
    ax = plot.tradeoff(TABLE, limit=0.8965).axes[0]
    low, _ = plot.tradeoff(TABLE[:3], limit=0.89).axes[0].get_ylim()
    assert low < 0.89
    hollow = [(colour == 1).all() for colour in ax.collections[0].get_facecolors()]
    assert hollow == [False] * 5 + [True]
    dotted = next(line for line in ax.get_lines() if line.get_linestyle() == ":")
    assert set(dotted.get_ydata()) == {0.8965}
    assert any("dotted: the least accepted" in t.get_text() for t in ax.texts)


@pytest.mark.parametrize(
    ("accuracies", "span"), [([0.9074, 0.9063], 0.01), ([0.9, 0.9], 0.01), ([0.9, 0.85], 0.05), ([0.9, 0.1], 0.8)]
)
def test_tradeoff_spans_a_point_of_accuracy_so_that_noise_looks_small(accuracies, span):
    table = pd.DataFrame({"gzipped_kb": [100, 50], "accuracy": accuracies}, ["a", "b"])
    ax = plot.tradeoff(table).axes[0]
    low, high = ax.get_ylim()
    assert span <= round(high - low, 9) < 1.5 * span
    assert low < min(accuracies) <= max(accuracies) < high
    texts = tick_labels(ax.yaxis)
    assert len(set(texts)) == len(texts)
    assert len({len(text.partition(".")[2]) for text in texts}) == 1


def test_tradeoff_does_not_stretch_the_axis_of_other_columns():
    table = TABLE.assign(loss=TABLE.accuracy / 1000)
    low, high = plot.tradeoff(table, y="loss").axes[0].get_ylim()
    assert high - low < 0.001


@pytest.mark.parametrize("sizes", [[100, 100], [100, 110], [100, 250], [3, 90], [0.01, 5000]])
def test_tradeoff_has_a_few_readable_ticks_at_every_span(sizes):
    ax = plot.tradeoff(pd.DataFrame({"gzipped_kb": sizes, "accuracy": [0.9, 0.8]}, ["a", "b"])).axes[0]
    ax.figure.draw_without_rendering()
    low, high = ax.get_xlim()
    texts = [t.label1.get_text() for t in ax.xaxis.get_major_ticks() if low <= t.get_loc() <= high]
    assert 2 <= len(texts) <= 12
    assert not [t for t in texts if "10^" in t or "e" in t]


def test_tradeoff_of_other_columns():
    table = TABLE.rename(columns={"accuracy": "auc"})
    ax = plot.tradeoff(table, x="median_ms", y="auc", note=None).axes[0]
    assert ax.get_xlabel().startswith("Median latency (ms), log scale")
    assert ax.get_xlabel().endswith("not shown: pruned")
    assert sorted(labels(ax).values()) == sorted(set(TABLE.index) - {"pruned"})


@pytest.mark.parametrize(
    ("table", "options", "error", "words"),
    [
        ({"a": 1}, {}, TypeError, "table is a dict; expected a pandas DataFrame"),
        (TABLE, {"x": "size"}, ValueError, "no column 'size'; it has gzipped_kb, accuracy, median_ms"),
        (TABLE, {"note": "speed"}, ValueError, "note='speed' is no column"),
        (TABLE, {"baseline": "int4"}, ValueError, "baseline='int4' is not in the table; it has float, int8"),
        (TABLE * np.nan, {}, ValueError, "no row of the table has both 'gzipped_kb' and 'accuracy'"),
        (TABLE * 0, {}, ValueError, "'gzipped_kb' has values of 0 or less"),
        (pd.concat([TABLE, TABLE]), {}, ValueError, "names a model twice"),
    ],
)
def test_tradeoff_errors(table, options, error, words):
    with pytest.raises(error, match=words):
        plot.tradeoff(table, **options)
