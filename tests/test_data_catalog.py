"""load: the known sets, the places files come from, and what is said when they are missing or damaged."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import http.server
import shutil
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from masslib.data import catalog, load, sources

ROOT = Path(__file__).resolve().parents[1]
FASHION = catalog.CATALOG["fashion_mnist"]


def idx(values: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return gzip.compress(head + values.tobytes(), mtime=0)


def small_entry(folder: Path, base: str) -> catalog.Entry:
    """Fashion-MNIST's entry for files of 60 + 20 rows, written to `folder` and said to be at `base`."""
    folder.mkdir(parents=True)
    rng, files = np.random.default_rng(0), []
    for known, rows in zip(FASHION.files, (60, 60, 20, 20), strict=True):
        values = rng.integers(0, 256, (rows, 4, 4), np.uint8) if "images" in known.name else np.arange(rows) % 10
        data = idx(values.astype(np.uint8))
        (folder / known.name).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        files.append(dataclasses.replace(known, url=f"{base}/{known.name}", sha256=digest, also=()))
    return dataclasses.replace(FASHION, name="small", files=tuple(files), cache="datasets/small", valid=10)


@pytest.fixture
def server(tmp_path):
    """A web server on this machine; yields (its folder, its address)."""
    handler = functools.partial(Quiet, directory=tmp_path / "www")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield tmp_path / "www", f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(autouse=True)
def keras_home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MASSLIB_DATA", raising=False)
    return tmp_path / "home"


def test_fashion_mnist_is_whole_stratified_and_repeatable():
    splits = load("fashion_mnist")
    assert repr(splits) == "Splits(train=55000, valid=5000, test=10000, classes=['T-shirt/top', ...])"
    assert (splits.input_shape, splits.num_classes, splits.classes[9]) == ((28, 28, 1), 10, "Ankle boot")
    for part, count in ((splits.train, 5500), (splits.valid, 500), (splits.test, 1000)):
        assert np.bincount(part.y).tolist() == [count] * 10
    images = [hash(x.tobytes()) for part in (splits.train, splits.valid) for x in part[:][0]]
    assert len(set(images)) == 60_000  # the set has no duplicates, so no row is lost or doubled
    # The first test image, an ankle boot, is empty above line 7 and touches white.
    x, y = splits.test[0]
    assert (int(y), x.max(), float(x[:7].max())) == (9, 1.0, 0.0)
    other = load("fashion_mnist", seed=1)
    assert not np.array_equal(other.valid.y, splits.valid.y) and np.array_equal(other.test.y, splits.test.y)
    assert np.array_equal(load("fashion_mnist").valid[:][0], splits.valid[:][0])


def test_digits():
    splits = load("digits")
    assert repr(splits) == "Splits(train=1257, valid=180, test=360, classes=['0', ...])"
    x = np.concatenate([part[:][0] for part in (splits.train, splits.valid, splits.test)])
    assert (splits.input_shape, x.min(), x.max()) == ((8, 8, 1), 0, 1)
    from sklearn.datasets import load_digits

    expected = np.sort(load_digits().images.reshape(-1, 64) / 16, axis=0)
    np.testing.assert_array_equal(np.sort(x.reshape(-1, 64), axis=0), expected)
    for part in (splits.train, splits.valid, splits.test):
        assert np.ptp(np.bincount(part.y) / len(part)) < 0.02
    assert repr(load("digits", valid=100, test=0.5)).startswith("Splits(train=798, valid=100, test=899,")


def test_mnist_is_read_from_the_npz_of_keras(tmp_path):
    y = np.arange(40, dtype=np.uint8) % 10
    x = np.full((40, 28, 28), y[:, None, None])
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    digest = hashlib.sha256((tmp_path / "mnist.npz").read_bytes()).hexdigest()
    entry = catalog.CATALOG["mnist"]
    with pytest.raises(
        ValueError, match=f"mnist.npz is damaged.*SHA-256 is {digest}, expected {entry.files[0].sha256}"
    ):
        load("mnist", folder=tmp_path)
    entry = dataclasses.replace(entry, files=(dataclasses.replace(entry.files[0], sha256=digest),))
    splits = load(entry, folder=tmp_path, valid=0.25)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (30, 10, 20)
    values, labels = splits.train[:]
    np.testing.assert_array_equal(values[:, 0, 0, 0], labels.astype(np.float32) * np.float32(1 / 255))


def test_loading_imports_neither_tensorflow_nor_keras():
    code = (
        "import sys; from masslib.data import load; load('fashion_mnist');"
        "print([m for m in ('tensorflow', 'keras', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


def test_places_are_searched_in_order(tmp_path, keras_home):
    entry = small_entry(tmp_path / "elsewhere", "http://127.0.0.1:1")
    shutil.copytree(tmp_path / "elsewhere", keras_home / entry.cache)
    splits = load(entry)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (50, 10, 20)
    (keras_home / entry.cache / entry.files[0].name).write_bytes(b"damaged")
    assert len(load(entry, folder=tmp_path / "elsewhere").test) == 20  # only there
    shutil.rmtree(keras_home)
    load("fashion_mnist")  # beside the package


def test_a_folder_is_the_only_place(tmp_path):
    shutil.copy(ROOT / "data" / "fashion_mnist" / FASHION.files[1].name, tmp_path)
    missing = [f"{file.name} from {file.url}" for file in FASHION.files if file is not FASHION.files[1]]
    with pytest.raises(FileNotFoundError) as caught:
        load("fashion_mnist", folder=tmp_path)
    message = str(caught.value)
    assert f"Put into {tmp_path}" in message and all(line in message for line in missing)
    assert FASHION.files[1].name not in message and "download failed" not in message


def test_a_damaged_file_is_named_with_both_checksums(tmp_path):
    entry = small_entry(tmp_path / "set", "http://127.0.0.1:1")
    path = tmp_path / "set" / entry.files[2].name
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes(data)
    found = hashlib.sha256(data).hexdigest()
    words = rf"{path} is damaged.*{found}, expected {entry.files[2].sha256}\. Delete it.*{entry.files[2].url}"
    with pytest.raises(ValueError, match=words):
        load(entry, folder=tmp_path / "set")


def test_missing_files_are_downloaded_once_and_whole(server, keras_home):
    folder, address = server
    entry = small_entry(folder, address)
    assert len(load(entry).test) == 20
    cached = keras_home / entry.cache
    assert sorted(p.name for p in cached.iterdir()) == sorted(file.name for file in entry.files)
    (folder / entry.files[0].name).unlink()
    assert len(load(entry).test) == 20  # from the cache


def test_a_download_with_other_bytes_leaves_nothing_behind(server, keras_home):
    folder, address = server
    entry = small_entry(folder, address)
    (folder / entry.files[1].name).write_bytes(b"<html>please log in</html>")
    with pytest.raises(ValueError, match=f"{entry.files[1].url} did not send .*{entry.files[1].sha256}.*login"):
        load(entry)
    assert [p.name for p in (keras_home / entry.cache).iterdir()] == [entry.files[0].name]


def test_the_published_form_is_downloaded_where_no_form_is_at_hand(server, keras_home):
    folder, address = server
    folder.mkdir()
    text = "To be, or not to be, that is the question:\n" * 9
    (folder / "input.txt").write_text(text)
    known = catalog.CATALOG["shakespeare"]
    files = (dataclasses.replace(known.forms[-1].files[0], url=f"{address}/input.txt"),)
    forms = (*known.forms[:-1], dataclasses.replace(known.forms[-1], files=files))
    entry = dataclasses.replace(known, forms=forms, sha256=sources.fingerprint({"text": [text]}))
    splits = load(entry)
    assert "".join(splits.classes[k] for k in splits.train[:][0]) == text[: int(0.9 * len(text)) - 1]
    (folder / "input.txt").unlink()
    kept = keras_home / "datasets" / files[0].name
    assert kept.is_file() and len(load(entry).train) == len(splits.train)  # from the cache
    kept.write_bytes(b"<html>\xff</html>")
    with pytest.raises(ValueError, match=rf"shakespeare cannot be read: .*0xff.*\. Delete {kept} and copy or"):
        load(entry)
    kept.unlink()
    with pytest.raises(FileNotFoundError, match=r"(?s)input.txt from http://127.*The download failed: .*404"):
        load(entry)


def test_offline_names_every_file_its_address_and_the_folder(tmp_path, server, keras_home):
    folder, address = server
    closed = small_entry(tmp_path / "set", "http://127.0.0.1:1")
    with pytest.raises(FileNotFoundError) as caught:
        load(closed)
    message = str(caught.value)
    assert f"Put into {keras_home / closed.cache} (or a folder that you pass as folder=)" in message
    assert all(f"{file.name} from {file.url}" in message for file in closed.files)
    assert "The download failed: URL fetch failure" in message
    gone = small_entry(folder, address)
    (folder / gone.files[3].name).unlink()
    with pytest.raises(FileNotFoundError, match=r"(?s)t10k-labels.*The download failed: .*404"):
        load(gone)
    assert gone.files[3].name not in [p.name for p in (keras_home / gone.cache).iterdir()]


@pytest.mark.parametrize(
    "options, error, words",
    [
        (
            {"name": "cifar"},
            ValueError,
            r"name is 'cifar', expected one of \['adult', 'clothing', .*'mnist'",
        ),
        ({"name": ["digits"]}, ValueError, r"name is \['digits'\], expected one of"),
        (
            {"name": "mnist", "test": 100},
            ValueError,
            "test is 100, but mnist has an official test set. Leave it",
        ),
        ({"valid": 0}, ValueError, r"valid is 0, expected 10 to 1427 rows, or a fraction .* of 1797 rows"),
        ({"valid": 1428}, ValueError, "valid is 1428, expected 10 to 1427 rows"),
        ({"valid": 1.0}, ValueError, "valid is 1.0, expected 10 to"),
        ({"valid": -0.5}, ValueError, "valid is -0.5, expected 10 to"),
        ({"valid": float("nan")}, ValueError, "valid is nan, expected 10 to"),
        ({"test": 0.001}, ValueError, "test is 0.001, expected 10 to 1787 rows"),
        ({"valid": "10%"}, TypeError, "valid is '10%', expected a number of rows or a fraction"),
        ({"image_size": (4, 4)}, ValueError, r"image_size is \(4, 4\), but the rows are uint8 x 0.0625; leave it out"),
        ({"valid": True}, TypeError, "valid is True, expected a number"),
    ],
)
def test_bad_arguments_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        load(**{"name": "digits", **options})


def test_the_embedded_files_are_the_published_ones_but_for_the_header_of_gzip():
    stamps = {"train": 1504176606, "t10k": 1504176627}  # 31 August 2017
    for file in FASHION.files:
        data = (ROOT / "data" / "fashion_mnist" / file.name).read_bytes()
        name = file.name.removesuffix(".gz").encode() + b"\0"
        header = b"\x1f\x8b\x08\x08" + struct.pack("<I", stamps[file.name.split("-")[0]]) + b"\x00\x03"
        assert hashlib.sha256(header + name + data[10:]).hexdigest() == file.sha256
        assert hashlib.sha256(data).hexdigest() in file.also


def test_the_readme_of_the_data_states_the_facts():
    text = (ROOT / "data" / "README.md").read_text()
    for file in FASHION.files:
        size = (ROOT / "data" / "fashion_mnist" / file.name).stat().st_size
        assert f"`{file.name}` | {size:,} | `{file.also[0]}`" in text
        assert f"`{file.sha256}`" in text
    assert all(name in text for name in FASHION.classes)
