"""Photos in files as one field of several: checked once, then a field like any other."""

from __future__ import annotations

import concurrent.futures
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from masslib.data import from_arrays, from_directory, photos, read_shards, split, write_shards

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 9, 8, 3), np.uint8)
AGES = np.arange(12) * 5


@pytest.fixture
def paths(tmp_path):
    found = [tmp_path / f"{k}.png" for k in range(12)]
    for path, pixels in zip(found, PIXELS, strict=True):
        Image.fromarray(pixels).save(path)
    return found


def subset_of(paths, **options):
    return from_arrays({"photo": photos(paths, image_size=(9, 8), **options), "age": AGES}, AGES % 2, AGES + 1.0)


IN_MEMORY = from_arrays({"photo": PIXELS, "age": AGES}, AGES % 2, AGES + 1.0)


def same(found, expected):
    tf.nest.map_structure(np.testing.assert_array_equal, found, expected)


def test_photos_beside_columns_are_what_they_are_in_memory(paths, tmp_path):
    subset = subset_of(paths)
    same(subset[:], IN_MEMORY[:])
    same(subset[5], IN_MEMORY[5])
    same(split(subset, 3, 3, seed=1).test[:], split(IN_MEMORY, 3, 3, seed=1).test[:])
    flip = {"photo": keras.layers.RandomFlip("horizontal", seed=1)}
    for options in ({}, {"augment": flip}, {"augment": flip, "epochs": 2, "start": 1}):
        pairs = zip(subset.batches(5, seed=2, **options), IN_MEMORY.batches(5, seed=2, **options), strict=True)
        for found, expected in pairs:
            same(found, expected)
    back = read_shards(write_shards(subset, tmp_path / "shards", shards=3))
    same(back[:], IN_MEMORY[:])
    same(pickle.loads(pickle.dumps(subset))[:], IN_MEMORY[:])  # such as a worker gets


def test_names_options_and_engines(paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = np.array([path.name for path in paths], object)  # a column of a table
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        grey = subset_of(names[::-1], channels=1, on=pool)
    assert grey.input_shape == {"photo": (9, 8, 1), "age": ()}
    expected = np.asarray(Image.fromarray(PIXELS[3]).convert("L"))
    np.testing.assert_array_equal(grey.rows.parts["photo"].raw(8)[..., 0], expected)
    twice = photos([names[0], names[0]], image_size=(4, 4), resize="crop")
    np.testing.assert_array_equal(twice.read(0), twice.read(1))


def test_a_directory_gives_the_same_rows(paths, tmp_path):
    for k, path in enumerate(paths):
        (tmp_path / "all" / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        path.rename(tmp_path / "all" / "ab"[k % 2] / path.name)
    train = from_directory(tmp_path / "all", image_size=(9, 8), valid=2, test=2).train
    files = [f"all/{name}" for name in train.rows._names]
    same(photos([tmp_path / file for file in files], image_size=(9, 8)).read(slice(None)), train[:][0])


def test_what_cannot_be_read_is_told_row_by_row(paths, tmp_path):
    paths[2].write_bytes(b"")
    paths[7].write_bytes(b"no photo")
    paths[9] = tmp_path / "lost.png"
    words = (
        r"3 of 12 photos cannot be read, first in row 2: .*/2.png \(empty\), .*/7.png \(no PNG or JPEG image\), "
        r".*/lost.png \(no file: .*\)\. Mend them, or leave their rows out of all fields"
    )
    with pytest.raises(ValueError, match=words) as caught:
        subset_of(paths)
    assert list(caught.value.reasons) == [2, 7, 9] and caught.value.reasons[2] == "empty"
    assert pickle.loads(pickle.dumps(caught.value)).reasons == caught.value.reasons
    kept = np.delete(np.arange(12), list(caught.value.reasons))
    rows = photos([paths[k] for k in kept], image_size=(9, 8))
    same(rows.raw(slice(None)), PIXELS[kept])
    paths[0].unlink()
    with pytest.raises(ValueError, match="/0.png was readable when it was checked and is not any more"):
        rows.read(0)


@pytest.mark.parametrize(
    "given, error, words",
    [
        ("a.png", TypeError, "paths is 'a.png', expected a sequence of paths"),
        (["a.png", float("nan")], TypeError, "paths holds nan in row 1, expected the path of a file"),
        ([], ValueError, "paths is empty"),
    ],
)
def test_bad_paths_are_refused(given, error, words):
    with pytest.raises(error, match=words):
        photos(given, image_size=(4, 4))


def test_bad_options_are_refused(paths):
    for options, error in (({"image_size": 4}, TypeError), ({"image_size": (4, 4), "channels": 2}, ValueError)):
        with pytest.raises(error, match="expected"):
            photos(paths, **options)
    rows = photos(paths, image_size=(4, 4))
    with pytest.raises(ValueError, match=r"scale 0.5 was passed for x\['photo'\], rows that have their scale already"):
        from_arrays({"photo": rows, "age": AGES}, scale={"photo": 0.5})
    with pytest.raises(ValueError, match="different numbers of rows"):
        from_arrays({"photo": rows, "age": AGES[:5]})
