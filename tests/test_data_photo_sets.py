"""load: the sets of photographs, in miniature, and whole where `MASSLIB_DATA` names a folder that has them."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import pickle
import zipfile

import numpy as np
import PIL.Image
import pytest

from masslib.data import catalog, from_arrays, load, sources, split

HERE = os.environ.get("MASSLIB_DATA")
real = pytest.mark.skipif(
    not HERE, reason="MASSLIB_DATA does not name the folder of the data sets, see docs/datasets.md"
)
KINDS = {"flowers": ("roses", "tulips"), "clothing": ("hat", "shirt", "polo")}
COLOURS = {"roses": (200, 0, 0), "tulips": (200, 200, 0), "hat": (0, 0, 200), "shirt": (0, 200, 200), "polo": (9, 9, 9)}


def written(folder, name: str) -> None:
    """A zip of 40 photos per class by 20 people, and its table, as the set `name` has them."""
    lines, (archive, table) = [], catalog.CATALOG[name].forms[0].files
    (folder / archive.name).parent.mkdir(parents=True)
    with zipfile.ZipFile(folder / archive.name, "w") as photos:
        for kind in KINDS[name]:
            for number in range(40):
                data = io.BytesIO()
                PIL.Image.new("RGB", (96, 96), COLOURS[kind]).save(data, "JPEG")
                photos.writestr(f"{kind}/{number}.jpg", data.getvalue())
                side = "test" if number % 20 < 4 else "train"
                lines.append((f"{kind}/{number}.jpg", kind, side, f"someone {number % 20}"))
    with (folder / table.name).open("w", encoding="utf-8", newline="") as stream:
        person = "photographer" if name == "flowers" else "sender_id"
        csv.writer(stream).writerows([("file", "class", "split", person), *lines])


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The entries, for miniatures in the folder that `MASSLIB_DATA` names."""
    monkeypatch.setenv("MASSLIB_DATA", str(tmp_path))
    for name in KINDS:
        written(tmp_path, name)
    entries = {}
    for name in (*KINDS, "garden"):
        (form,) = catalog.CATALOG[name].forms
        sha256 = sources.fingerprint(form.read([tmp_path / file.name for file in form.files]))
        classes = catalog.CATALOG[name].classes if name == "garden" else KINDS[name][:2]
        entries[name] = dataclasses.replace(catalog.CATALOG[name], classes=classes, sha256=sha256)
    return entries


@pytest.mark.parametrize("name, test", [("flowers", 16), ("clothing", 16), ("garden", 40)])
def test_photos_are_split_by_person_and_show_their_class(small, name, test):
    splits = load(small[name])
    parts = splits.train, splits.valid, splits.test
    assert len(splits.test) == test and sum(map(len, parts)) == 5 * test
    people = [set(part.groups) for part in parts]
    assert not (people[0] & people[1] or people[0] & people[2] or people[1] & people[2])
    for part in parts:
        x, y = part[:]
        assert set(y) == {0, 1} and part.classes == list(small[name].classes)
        kinds = dict(enumerate(KINDS.get(name, ())))
        for photo, label in zip(x, y, strict=True):
            colour = (photo[48, 48] * 255).round()
            red = colour[0] > 100  # of the miniatures' flowers alone
            assert red == bool(label) if name == "garden" else np.abs(colour - COLOURS[kinds[label]]).max() < 5
    again = load(small[name])
    assert np.array_equal(again.valid.groups, splits.valid.groups)
    assert not np.array_equal(load(small[name], seed=1).valid.groups, splits.valid.groups)


def test_photos_of_another_size_are_decoded_when_read(small):
    splits = load(small["garden"], image_size=(32, 24))
    assert splits.input_shape == (32, 24, 3)
    kept = pickle.loads(pickle.dumps(splits.test))
    np.testing.assert_array_equal(kept[:][0], splits.test[:][0])
    np.testing.assert_array_equal(splits.test[3][0], splits.test[:][0][3])
    batch, _ = next(iter(splits.test.batches(8, shuffle=False)))
    np.testing.assert_allclose(batch, splits.test[:8][0], atol=1e-7)
    with pytest.raises(TypeError, match="image_size is 32, expected"):
        load(small["garden"], image_size=32)


def test_people_stay_together_when_the_rows_are_split_again(small):
    train = load(small["garden"]).train
    parts = split(train, groups=train.groups)
    assert not set(parts.train.groups) & set(parts.test.groups)
    assert from_arrays(np.zeros((3, 2))).groups is None


def test_what_is_missing_or_damaged_is_named(small, tmp_path, monkeypatch):
    table = tmp_path / "photos_flowers" / "ATTRIBUTION.csv"
    table.write_text(table.read_text().replace("someone 7", "nobody"))
    with pytest.raises(ValueError, match=f"the rows of flowers are damaged.*expected {small['flowers'].sha256}"):
        load(small["flowers"])
    (tmp_path / "photos_flowers" / "flowers96.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"flowers96.zip is damaged, or not the archive that .*ATTRIBUTION.csv"):
        load("flowers")
    table.unlink()
    with pytest.raises(FileNotFoundError, match=rf"(?s)Put into {tmp_path} .*ATTRIBUTION.csv from tools/prepare_pho"):
        load("flowers")


@real
@pytest.mark.parametrize(
    "name, rows, test",
    [("flowers", 3626, [117, 176, 141, 115, 178]), ("clothing", 4514, None), ("garden", 8722, [1035, 727])],
)
def test_the_real_photos_are_whole(name, rows, test):
    splits = load(name)
    parts = splits.train, splits.valid, splits.test
    assert sum(map(len, parts)) == rows and splits.input_shape == (96, 96, 3)
    assert test is None or np.bincount(splits.test.y).tolist() == test
    people = [set(part.groups) for part in parts]
    assert not (people[0] & people[1] or people[0] & people[2] or people[1] & people[2])
    assert all(len(who) > 20 for who in people)
    x, _ = splits.valid[:8]
    assert x.std(axis=(1, 2, 3)).min() > 0.02  # none is blank
