"""An engine is a way to map: photos are looked at and shards written by Spark and Ray as by this process."""

import concurrent.futures
import gc
import multiprocessing
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

import masslib
from masslib._util.mapping import mapped
from masslib.data import from_directory, read_shards, write_shards


@pytest.fixture(scope="module")
def processes():
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield pool


ENGINES = [
    pytest.param("processes", marks=pytest.mark.slow),
    *(pytest.param(name, marks=[pytest.mark.slow, pytest.mark.alone]) for name in ("spark", "ray")),
]


@pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_reads_and_writes_as_this_process(engine, request, tmp_path):
    on = request.getfixturevalue(engine)
    on = "ray" if engine == "ray" else on
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(130):
            Image.fromarray(rng.integers(0, 256, (9, 8, 3), np.uint8)).save(tmp_path / name / f"{number:03}.png")
        (tmp_path / name / "070.png").write_bytes(b"no photo")
        (tmp_path / name / "071.png").write_bytes(b"")

    def prepared(on, target):
        with pytest.warns(UserWarning, match="4 of 260 files .* are skipped"):
            splits = from_directory(tmp_path, image_size=(9, 8), on=on)
        folder = write_shards(splits.train, target, shards=3, on=on)
        return splits, {path.name: path.read_bytes() for path in folder.iterdir()}

    target = tmp_path.with_name(f"{tmp_path.name}-shards")
    alone, expected = prepared(None, target)
    splits, found = prepared(on, target)
    assert splits.skipped == alone.skipped
    assert found == expected
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_shards(target)[:9][0], alone.train[:9][0])


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")
def test_spark_does_not_search_for_garbage_in_what_was_imported(spark):
    def tracked(number):
        import tensorflow  # noqa: F401

        return len(gc.get_objects())

    first, second = (mapped(tracked, range(4), spark) for _ in range(2))
    assert max(first) > 100_000  # what TensorFlow holds
    assert max(second) < 20_000


def _broken(number):
    if number == 2:
        raise ZeroDivisionError("job 2")
    return number


def test_the_error_of_a_job_is_raised(processes):
    for on in (None, map, processes):
        with pytest.raises(ZeroDivisionError, match="job 2"):
            mapped(_broken, [1, 2, 3], on)


@pytest.mark.parametrize("extra, module", [("ray", "ray"), ("spark", "pyspark")])
def test_an_engine_that_is_not_installed_is_named_with_its_extra(extra, module, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == module or name.endswith(f".on_{extra}")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    words = rf"^.*on='{extra}'.* needs {module}, which comes with: pip install 'masslib\[{extra}\]'$"
    with pytest.raises(ModuleNotFoundError, match=words):
        masslib.launch(_broken, [1], on=extra)
    if extra == "ray":  # of Spark one passes the session
        with pytest.raises(ModuleNotFoundError, match=words):
            mapped(abs, [1], on=extra)
