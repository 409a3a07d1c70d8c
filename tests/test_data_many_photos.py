"""A hundred thousand photos become shards on Spark, about as fast as in bare processes, and though a process dies."""

import os
import signal
import statistics
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masslib.data import from_directory, write_shards

COUNT, SHARDS, BROKEN = 100_000, 8, 100

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.alone,
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.* files in .* are skipped:UserWarning"),
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of two classes, with one in a thousand that cannot be read."""
    folder = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)
    for name in ("cat", "dog"):
        (folder / name).mkdir()
    for number in range(COUNT):
        place = folder / ("cat", "dog")[number % 2] / f"{number:06}.jpg"
        Image.fromarray(np.roll(noise[number % 64], number, 0)).save(place)
        if number % (COUNT // BROKEN) == 7:
            whole = place.read_bytes()
            place.write_bytes((b"", b"no photo", whole[: len(whole) // 2])[number % 3])
    return folder


def prepared(photos, target, on):
    """Seconds, and what was skipped."""
    start = time.perf_counter()
    splits = from_directory(photos, image_size=(32, 32), on=on)
    write_shards(splits.train, target, shards=SHARDS, on=on)
    return time.perf_counter() - start, splits


def contents(folder: Path):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_spark_is_about_as_fast_as_processes_and_reports_alike(photos, spark, tmp_path):
    rounds = []
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        for _ in range(3):
            ours, expected = prepared(photos, tmp_path / "pool", pool)
            theirs, found = prepared(photos, tmp_path / "spark", spark)
            rounds.append(ours / theirs)
            assert found.skipped == expected.skipped
            assert len(found.skipped) == BROKEN
            assert contents(tmp_path / "spark") == contents(tmp_path / "pool")
    # Without the first round, in which all import TensorFlow
    assert statistics.median(rounds[1:]) >= 0.8, rounds


def test_a_killed_process_repeats_its_shard_alone(photos, spark, tmp_path):
    started = tmp_path / "started"
    started.mkdir()

    def with_a_death(write, jobs):
        def noted(job):
            import tensorflow  # noqa: F401 - so that the file is being written when the process dies

            number, arguments = job
            (started / f"{number}-{time.time_ns()}").touch()
            if number == 2 and len(list(started.glob("2-*"))) == 1:
                threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGKILL]).start()
                time.sleep(0.25)
            return write(arguments)

        return spark.sparkContext.parallelize(list(enumerate(jobs)), len(jobs)).map(noted).collect()

    splits = from_directory(photos, image_size=(32, 32))
    write_shards(splits.train, tmp_path / "alone", shards=SHARDS)
    write_shards(splits.train, tmp_path / "killed", shards=SHARDS, on=with_a_death)
    attempts = Counter(int(path.name.partition("-")[0]) for path in started.iterdir())
    assert attempts == {number: 2 if number == 2 else 1 for number in range(SHARDS)}
    assert contents(tmp_path / "killed") == contents(tmp_path / "alone")
