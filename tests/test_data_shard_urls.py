"""Shards at URLs are those of a folder, and are read through a bounded cache."""

import concurrent.futures
import json
import multiprocessing
import uuid

import numpy as np
import pytest

from masslib.data import from_arrays, ragged, read_shards, write_shards, write_shards_from

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'masslib[remote]'")


@pytest.fixture(autouse=True)
def keras_home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


@pytest.fixture
def s3(monkeypatch):
    """A bucket in a server of this process."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install s3fs")
    server = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[server]'")
    thread = server.ThreadedMotoServer("127.0.0.1", 0)
    thread.start()
    host, port = thread.get_host_and_port()
    settings = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**settings, "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    bucket = uuid.uuid4().hex  # moto keeps what it has as long as its process lives
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(bucket)
    yield f"s3://{bucket}/deep/shards"
    fsspec.filesystem("s3").clear_instance_cache()
    thread.stop()


@pytest.fixture(params=["memory", "local", pytest.param("s3", marks=[pytest.mark.slow, pytest.mark.alone])])
def url(request, tmp_path):
    if request.param == "s3":
        return request.getfixturevalue("s3")
    return f"memory://{uuid.uuid4().hex}" if request.param == "memory" else f"local://{tmp_path}/there/shards"


def _subset(rows=90, seed=0):
    rng = np.random.default_rng(seed)
    x = {"photo": rng.integers(0, 256, (rows, 6, 5, 3), np.uint8), "age": rng.normal(size=rows)}
    return from_arrays(x, np.arange(rows) % 3, classes=["a", "b", "c"])


def _equal(subset, other):
    for mine, its in zip(subset[:], other[:], strict=True):
        for one, two in zip(
            *(part.values() if isinstance(part, dict) else [part] for part in (mine, its)), strict=True
        ):
            np.testing.assert_array_equal(one, two)


def _files(system, path):
    return {name.rpartition("/")[2]: system.cat_file(name) for name in system.ls(path, detail=False)}


def test_the_files_are_those_of_a_folder(url, tmp_path):
    subset = _subset()
    folder = write_shards(subset, tmp_path / "shards", shards=3)
    assert write_shards(_subset(20, 1), url, shards=5) == url
    assert write_shards(subset, f"{url}/", shards=3) == url  # in the place of the older ones
    system, path = fsspec.core.url_to_fs(url)
    system.invalidate_cache()
    assert _files(system, path) == {file.name: file.read_bytes() for file in folder.iterdir()}
    _equal(read_shards(url), subset)
    system.rm(path, recursive=True)
    with pytest.raises(ValueError, match="holds no manifest.json"):
        read_shards(url)


def test_rows_of_varying_length_come_back(url):
    words = [np.arange(row % 5 + 1, dtype=np.int32) for row in range(40)]
    subset = from_arrays(ragged(words), np.arange(40) % 2)
    write_shards(subset, url, shards=2)
    read = read_shards(url)
    for row in (0, 4, 39):
        np.testing.assert_array_equal(read[row][0], words[row])


def test_the_cache_keeps_to_its_limit_and_reading_is_the_same(url, tmp_path):
    subset, cache = _subset(), tmp_path / "cache"
    write_shards(subset, url, shards=6)
    read = read_shards(url, cache=cache, cache_bytes=5000)
    assert read[40][1] == 40 % 3
    for start in (80, 0, 30, 30, 60):
        _equal(read.select(slice(start, start + 10)), subset.select(slice(start, start + 10)))
        assert sum(path.stat().st_size for path in cache.iterdir()) <= 5000
    order = np.random.default_rng(0).permutation(90)
    _equal(read.select(order), subset.select(order))
    for path in cache.iterdir():  # as another process may
        path.unlink()
    _equal(read, subset)


def test_what_was_damaged_is_told(url):
    write_shards(_subset(), url, shards=2)
    system, path = fsspec.core.url_to_fs(url)
    name = f"{path}/shard-00001-of-00002.tfrecord"
    whole = system.cat_file(name)
    system.pipe_file(name, whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"shard-00001-of-00002\.tfrecord is damaged or cut short: its SHA-256 is"):
        read_shards(url)
    system.rm_file(name)
    with pytest.raises(ValueError, match=r"shard-00001-of-00002\.tfrecord is missing"):
        read_shards(url)
    system.pipe_file(f"{path}/manifest.json", json.dumps({"format": "masslib shards 2"}).encode())
    with pytest.raises(ValueError, match="holds no whole manifest"):
        read_shards(url)


def test_what_others_wrote_stays(url):
    system, path = fsspec.core.url_to_fs(url)
    system.makedirs(path, exist_ok=True)
    system.pipe_file(f"{path}/thesis.tex", b"much work")
    with pytest.raises(ValueError, match="holds other things than shards, such as thesis.tex"):
        write_shards(_subset(), url)
    assert system.cat_file(f"{path}/thesis.tex") == b"much work"


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("url", ["local", "s3"], indirect=True)
def test_other_processes_write_the_same(url, tmp_path):
    subset = _subset()
    folder = write_shards(subset, tmp_path / "shards", shards=3)
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        write_shards(subset, url, shards=3, on=pool)
    system, path = fsspec.core.url_to_fs(url)
    system.invalidate_cache()
    assert _files(system, path) == {file.name: file.read_bytes() for file in folder.iterdir()}


def test_file_urls_are_paths(tmp_path):
    subset = _subset()
    assert write_shards(subset, f"file://{tmp_path}/shards", shards=2) == tmp_path / "shards"
    _equal(read_shards(f"file://{tmp_path}/shards"), subset)
    with pytest.raises(ValueError, match="expected a path that all tasks see"):
        write_shards_from([], "memory://shards", x="a")
