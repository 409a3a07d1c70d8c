"""Shards: back to the bit, or an error that names the file."""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from masslib.data import Subset, from_arrays, from_directory, ragged, read_shards, write_shards

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (700, 4, 5, 3), np.uint8)
SUBSET = from_arrays(IMAGES, np.arange(700) % 300, classes=[f"class {k}" for k in range(300)])


def same(a: Subset, b: Subset) -> bool:
    return (
        all(np.array_equal(p, q) and p.dtype == q.dtype for p, q in zip(a[:], b[:], strict=True))
        and np.array_equal(a.rows.raw(slice(None)), b.rows.raw(slice(None)))
        and (a.rows.dtype, a.rows.scale, a.classes, a.input_shape)
        == (b.rows.dtype, b.rows.scale, b.classes, b.input_shape)
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_shards(SUBSET, tmp_path / "set", shards=3)


KINDS = {
    "uint8": SUBSET,
    "big-endian": from_arrays(RNG.integers(0, 2**16, (50, 7)).astype(">u2"), np.arange(50)),
    "float16": from_arrays(RNG.random((50, 7)).astype(np.float16), np.arange(50), scale=0.1),
    "float32": from_arrays(RNG.standard_normal((50, 2, 3, 4, 5)), RNG.standard_normal(50)),
    "bool": from_arrays(RNG.random((50, 1)) > 0.5, RNG.standard_normal((50, 3))),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shards", [1, 7, 50])
def test_what_was_written_is_read_to_the_bit(kind, shards, tmp_path):
    subset = KINDS[kind]
    back = read_shards(write_shards(subset, tmp_path / "set", shards=shards))
    assert same(back, subset) and len(list((tmp_path / "set").iterdir())) == shards + 1
    numbers = RNG.permutation(len(subset))[:40]
    for rows in (3, -1, slice(30, 2, -4), numbers, np.arange(len(subset)) % 3 == 1):
        np.testing.assert_array_equal(back[rows][0], subset[rows][0])
        np.testing.assert_array_equal(back[rows][1], subset[rows][1])
    assert same(back.select(numbers).take(9), subset.select(numbers).take(9))
    for (x, y), (p, q) in zip(back.batches(16, seed=5), subset.batches(16, seed=5), strict=True):
        assert np.array_equal(x, p) and np.array_equal(y, q)


def test_rows_stay_in_the_files(folder):
    assert repr(read_shards(folder).take(3)).startswith("Subset(3 rows of (4, 5, 3), uint8 x 0.003922 in 3 shards,")
    assert len(pickle.dumps(read_shards(folder))) < IMAGES.nbytes / 2


def test_any_tensorflow_program_can_read_them(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    paths = [str(folder / file["name"]) for file in manifest["files"]]
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in ("x", "y")}
    examples = tf.io.parse_example(list(tf.data.TFRecordDataset(paths).as_numpy_iterator()), features)
    x = tf.io.decode_raw(examples["x"], tf.uint8).numpy().reshape(-1, *manifest["fields"][0]["shape"])
    np.testing.assert_array_equal(x, IMAGES)
    np.testing.assert_array_equal(tf.io.decode_raw(examples["y"], tf.int32)[:, 0], SUBSET.y)
    assert (manifest["rows"], [file["rows"] for file in manifest["files"]]) == (700, [233, 233, 234])


def test_photos_become_shards(tmp_path):
    from PIL import Image

    for k in range(8):
        path = tmp_path / "photos" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (9, 9), np.uint8)).save(path)
    train = from_directory(tmp_path / "photos", image_size=(6, 6), valid=2, test=2).train
    assert same(read_shards(write_shards(train, tmp_path / "set")), train)


def damage(folder: Path, fault: str) -> None:
    first, second, third = sorted(folder.glob("*.tfrecord"))
    data = bytearray(second.read_bytes())
    if fault == "missing":
        second.unlink()
    elif fault == "swapped":
        second.rename(folder / "x")
        first.rename(second)
        (folder / "x").rename(first)
    elif fault == "copied":
        shutil.copy(third, second)
    elif fault == "cut":
        second.write_bytes(data[:-1])
    elif fault == "longer":
        second.write_bytes(data + b"\0")
    elif fault == "emptied":
        second.write_bytes(b"")
    elif fault == "flipped":
        data[len(data) // 2] ^= 1
        second.write_bytes(data)


@pytest.mark.parametrize(
    "fault, words",
    [
        ("missing", "shard-00001-of-00003.tfrecord is missing, one of 3 shards"),
        ("swapped", "shard-00000-of-00003.tfrecord holds what belongs into shard-00001-of-00003"),
        ("copied", "shard-00001-of-00003.tfrecord holds what belongs into shard-00002-of-00003"),
        *[
            (fault, "shard-00001-of-00003.tfrecord is damaged or cut short: its SHA-256 is .*, the manifest says")
            for fault in ("cut", "longer", "emptied", "flipped")
        ],
    ],
)
def test_a_bad_shard_is_named(folder, fault, words):
    damage(folder, fault)
    with pytest.raises(ValueError, match=words):
        read_shards(folder)


def test_a_bad_manifest_is_named(folder):
    path = folder / "manifest.json"
    whole = path.read_bytes()
    for content in (
        whole.replace(b'"class 17"', b'"class 71"'),
        whole[:-1],
        whole.replace(b'"rows": 700', b'"rows": 7'),
    ):
        assert content != whole
        path.write_bytes(content)
        with pytest.raises(ValueError, match="manifest.json is damaged: its SHA-256 is"):
            read_shards(folder)
    for content in (b"", b"{}", whole[:40]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"holds no whole manifest.json; make or copy the folder again"):
            read_shards(folder)
    path.unlink()
    with pytest.raises(ValueError, match=r"holds no whole manifest.json"):
        read_shards(folder)


def test_a_folder_appears_whole_or_not_at_all(folder, tmp_path):
    class Failing(type(SUBSET.rows)):
        part = slice(0, 700)

        def select(self, rows):
            selected = type(self)(super().select(rows)._x, self.scale)
            selected.part = rows
            return selected

        def raw(self, rows):
            if self.part.start > 300:
                raise OSError("disk full")
            return super().raw(rows)

    failing = Subset(Failing(IMAGES, 1 / 255), SUBSET.y)
    for target in (folder, tmp_path / "new"):
        with pytest.raises(OSError, match="disk full"):
            write_shards(failing, target, shards=2)
    assert same(read_shards(folder), SUBSET)  # the older one stands
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    write_shards(SUBSET.take(5), folder, shards=5)
    assert same(read_shards(folder), SUBSET.take(5)) and len(list(folder.iterdir())) == 6


STRUCTURE = from_arrays(
    {"image": IMAGES, "words": ragged([RNG.integers(1, 9, size) for size in RNG.integers(1, 300, 700)], pad=-1)},
    (np.arange(700) % 3, RNG.random((700, 3, 9))),
    RNG.random(700),
    classes=(["a", "b", "c"], None),
)
PLAIN = from_arrays({"image": IMAGES, "name": [f"n{k}" for k in range(700)]}, [np.arange(700), RNG.random((700, 9, 4))])


def equal_rows(a, b):
    tf.nest.assert_same_structure(a, b)
    return all(map(np.array_equal, tf.nest.flatten(a), tf.nest.flatten(b)))


@pytest.mark.parametrize("subset", [STRUCTURE, PLAIN], ids=["ragged", "fixed"])
def test_several_fields_come_back_in_their_structure(subset, tmp_path):
    back = read_shards(write_shards(subset, tmp_path / "set", shards=3))
    for rows in (slice(None), 5, RNG.permutation(700)[:40]):
        assert equal_rows(back[rows], subset[rows])
    assert (back.classes, repr(back.input_shape)) == (subset.classes, repr(subset.input_shape))
    for found, expected in zip(back.batches(64, seed=2), subset.batches(64, seed=2), strict=True):
        assert equal_rows(found, expected)
    if subset is STRUCTURE:
        pairs = zip(back.group_by_length().batches(64), subset.group_by_length().batches(64), strict=True)
        assert all(equal_rows(*pair) for pair in pairs)
    again = pickle.loads(pickle.dumps(back))  # such as a worker gets
    assert equal_rows(again[:9], subset[:9])


def test_shards_of_the_first_format_are_still_read():
    back = read_shards(Path(__file__).parent / "fixtures" / "shards_1")
    x = np.arange(20, dtype=np.uint8).reshape(5, 2, 2, 1)
    assert same(back, from_arrays(x, np.int32([0, 1, 2, 1, 0]), classes=["a", "b", "c"]))


@pytest.mark.parametrize("engine", [pytest.param("processes", marks=pytest.mark.slow), "threads", "map"])
def test_every_engine_writes_the_same_bytes(engine, tmp_path):
    def folder_of(on):
        folder = write_shards(STRUCTURE, tmp_path / "other", shards=4, on=on)
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    alone = write_shards(STRUCTURE, tmp_path / "alone", shards=4)
    expected = {path.name: path.read_bytes() for path in alone.iterdir()}
    if engine == "map":
        found = folder_of(lambda fn, jobs: [fn(job) for job in jobs for _ in range(2)][::2])  # each of them twice
    elif engine == "threads":
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            found = folder_of(pool)
    else:
        with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
            found = folder_of(pool)
    assert found == expected


def test_what_cannot_map_is_refused(tmp_path):
    with pytest.raises(TypeError, match="on=3: expected None, an Executor, a SparkSession, 'ray'"):
        write_shards(SUBSET, tmp_path / "set", on=3)
    with pytest.raises(ValueError, match="y of .* has dtype object"):
        write_shards(Subset(SUBSET.rows, np.array(["a"] * 700, object)), tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_other_things_are_not_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for target in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(ValueError, match="holds other things than shards, which would be lost"):
            write_shards(SUBSET, target)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    (tmp_path / "manifest.json").write_text("{}")  # such as a package of export has
    with pytest.raises(ValueError, match="holds other things than shards, which would be lost"):
        write_shards(SUBSET, tmp_path)


@pytest.mark.parametrize(
    "subset, shards, error, words",
    [
        (SUBSET, 0, ValueError, "shards is 0, expected an integer from 1 to 700"),
        (SUBSET, 701, ValueError, "shards is 701, expected an integer from 1 to 700"),
        (SUBSET, 2.0, TypeError, "shards is 2.0, expected an integer"),
        (IMAGES, 2, TypeError, "subset is a ndarray, expected a Subset"),
    ],
)
def test_bad_arguments_are_refused(subset, shards, error, words, tmp_path):
    with pytest.raises(error, match=words):
        write_shards(subset, tmp_path / "set", shards=shards)
    assert not (tmp_path / "set").exists()
