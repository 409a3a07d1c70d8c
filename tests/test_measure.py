from __future__ import annotations

import gzip
from types import SimpleNamespace

import numpy as np
import pytest

from masslib import measure
from masslib.measure import FileSize, file_size, latencies, latency


class Clock:
    """Time that passes only while a model predicts."""

    ns = 0

    def perf_counter_ns(self):
        return self.ns


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(measure, "time", SimpleNamespace(perf_counter_ns=clock.perf_counter_ns))
    return clock


class Fake:
    """A loaded model whose `n`-th call takes `seconds(n)`; it notes its calls in a log it may share."""

    input_shape = (2, 3)

    def __init__(self, clock=None, seconds=lambda n: 0.0, name="fake", log=None):
        self.clock, self.seconds, self.name = clock or Clock(), seconds, name
        self.log = [] if log is None else log
        self.inputs = []

    def predict(self, x, *, batch_size):
        assert len(x) == batch_size
        self.clock.ns += round(self.seconds(len(self.log)) * 1e9)
        self.log.append(self.name)
        self.inputs.append(x)
        return x


def content(n):
    rng = np.random.default_rng(n)
    few = rng.integers(0, 4, min(n, 20_000), dtype=np.uint8).tobytes()  # level 9 gains on these
    return few + rng.bytes(n) + (rng.bytes(n // 3) + b"layer") * 2


@pytest.mark.parametrize("n", [0, 1, 1000, 2**20, 3_000_000])
def test_file_size_is_exact(tmp_path, n):
    path = tmp_path / "model.bin"
    path.write_bytes(content(n))
    assert file_size(path) == FileSize(len(content(n)), len(gzip.compress(content(n), 9, mtime=0)))
    assert file_size(str(path)) == file_size(path)


def test_file_size_ignores_names_and_dates(tmp_path):
    for name in ("a", "a-much-longer-name.tflite"):
        (tmp_path / name).write_bytes(content(1000))
    assert file_size(tmp_path / "a") == file_size(tmp_path / "a-much-longer-name.tflite")


def test_file_size_of_a_folder_is_the_sum_of_its_files(tmp_path):
    (tmp_path / "variables" / "empty").mkdir(parents=True)
    files = [tmp_path / "saved_model.pb", tmp_path / "variables" / "data", tmp_path / "variables" / ".hidden"]
    for n, file in enumerate(files):
        file.write_bytes(content(5000 * n))
    assert file_size(tmp_path) == FileSize(*np.sum([file_size(file) for file in files], axis=0))


def test_file_size_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.tflite does not exist; export a model there first"):
        file_size(tmp_path / "nothing.tflite")
    with pytest.raises(ValueError, match="holds no files; expected an exported model"):
        file_size(tmp_path)


def test_latency_is_the_time_of_one_call(clock):
    result = latency(Fake(clock, lambda n: 0.004), runs=50)
    assert result.median_ms == result.p95_ms == 4.0


def test_median_and_p95_are_of_single_calls(clock):
    model = Fake(clock, lambda n: 0.050 if n % 10 == 5 else 0.005)
    result = latency(model, runs=100, warmup=0)
    assert (result.median_ms, result.p95_ms) == (5.0, 50.0)


def test_warm_up_is_not_timed(clock):
    assert latency(Fake(clock, lambda n: 9.0 if n < 20 else 0.001), max_seconds=900).p95_ms == 1.0


def test_latency_reports_what_was_asked_and_done():
    result = latency(Fake(), batch_size=7, runs=33)
    assert (result.runs, result.batch_size, result.threads) == (33, 7, None)


def test_one_fixed_random_batch():
    model, again, other = Fake(), Fake(), Fake()
    latency(model, batch_size=4, runs=5, warmup=2)
    latency(again, batch_size=4, runs=1, warmup=0)
    latency(other, batch_size=4, runs=1, warmup=0, seed=1)
    first = model.inputs[0]
    assert first.shape == (4, 2, 3)
    assert first.dtype == np.float32
    assert all(x is first for x in model.inputs)
    np.testing.assert_array_equal(first, again.inputs[0])
    assert (first != other.inputs[0]).all()
    assert first.min() >= 0
    assert first.max() < 1


def test_stops_early_but_not_before_20_runs(clock):
    slow = Fake(clock, lambda n: 1.0)
    assert latency(slow, runs=10_000, warmup=10_000, max_seconds=5).runs == 20
    assert len(slow.log) < 40
    assert latency(Fake(clock, lambda n: 0.125), runs=10_000, max_seconds=5).runs == 40
    assert latency(slow, runs=3, warmup=0, max_seconds=0.1).runs == 3


def test_a_slow_model_does_not_shorten_a_fast_one(clock):
    models = {"slow": Fake(clock, lambda n: 1.0), "fast": Fake(clock, lambda n: 0.001)}
    results = latencies(models, runs=100)
    assert (results["slow"].runs, results["fast"].runs) == (20, 100)


def test_models_take_turns():
    log = []
    results = latencies({name: Fake(name=name, log=log) for name in "abc"}, runs=100, warmup=0)
    assert list(results) == ["a", "b", "c"]
    assert all(r.runs == 100 for r in results.values())
    # On average every model is called as late as any other.
    means = [np.mean([i for i, called in enumerate(log) if called == name]) for name in "abc"]
    assert np.ptp(means) < 1e-9


def test_drift_of_the_machine_hits_all_alike(clock):
    log = []
    models = {name: Fake(clock, lambda n: 0.001 + 0.001 * n, name, log) for name in "ab"}
    a, b = latencies(models, runs=100, warmup=0, max_seconds=900).values()
    assert a.median_ms == pytest.approx(b.median_ms, rel=0.02)
    assert a.p95_ms > 1.5 * a.median_ms


def test_exported_files_are_loaded_with_the_threads_and_closed(tmp_path, monkeypatch):
    runtime = pytest.importorskip("masslib.runtime")
    opened, closed = [], []

    def load(path, *, threads):
        model = Fake()
        model.threads = threads if path.suffix == ".tflite" else None
        model.close = lambda: closed.append(path)
        opened.append((path, threads))
        return model

    monkeypatch.setattr(runtime, "load", load)
    lite, saved = tmp_path / "m.tflite", tmp_path / "saved"
    lite.write_bytes(b"x")
    saved.mkdir()
    results = latencies({"lite": lite, "saved": str(saved)}, runs=1, threads=2)
    assert opened == [(lite, 2), (saved, 2)]
    assert sorted(closed) == sorted([lite, saved])
    assert (results["lite"].threads, results["saved"].threads) == (2, None)


def test_tflite_file(tmp_path):
    keras = pytest.importorskip("keras")
    tf = pytest.importorskip("tensorflow")
    pytest.importorskip("masslib.runtime")
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    model.export(tmp_path / "saved", verbose=False)
    path = tmp_path / "model.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved")).convert())
    result = latency(path, batch_size=2, runs=25)
    assert 0 < result.median_ms <= result.p95_ms
    assert (result.runs, result.threads) == (25, 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runs": 0}, "runs=0: expected a whole number of at least 1"),
        ({"runs": 2.5}, "runs=2.5"),
        ({"warmup": -1}, "warmup=-1: expected a whole number of at least 0"),
        ({"batch_size": True}, "batch_size=True"),
        ({"threads": 0}, "threads=0"),
        ({"max_seconds": 0}, "max_seconds=0: expected a positive number of seconds"),
        ({"max_seconds": float("nan")}, "max_seconds=nan"),
    ],
)
def test_numbers_out_of_range(options, words):
    with pytest.raises(ValueError, match=words):
        latency(Fake(), **options)


def test_errors_of_models(tmp_path):
    with pytest.raises(FileNotFoundError, match="no.tflite does not exist; export a model there first"):
        latency(tmp_path / "no.tflite")
    with pytest.raises(ValueError, match="models={}: expected a dict of at least one name"):
        latencies({})
    with pytest.raises(ValueError, match="models=\\['a'\\]"):
        latencies(["a"])
    with pytest.raises(TypeError, match="'x' is a int; expected the path of an exported file"):
        latencies({"x": 3})
    keras_like = Fake()
    keras_like.fit = None
    with pytest.raises(TypeError, match="export a Keras model first"):
        latency(keras_like)
    open_shape = Fake()
    open_shape.input_shape = (None, 3)
    with pytest.raises(ValueError, match=r"shape \(None, 3\); expected one without open dimensions"):
        latency(open_shape)
