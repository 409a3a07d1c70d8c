"""Rows that lie in Spark, Ray or pandas become the same shards, and are split as they should be."""

import io
import os

import numpy as np
import pandas
import pytest
from PIL import Image

from masslib.data import from_directory, read_shards, write_shards_from

pytestmark = [
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    # Ray Data 2.60 warns of settings that it makes itself.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning:ray"),
]


@pytest.fixture(scope="module")
def photos():
    """A table of photos, some of which nobody can read."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(240):
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (9, 8, 3), np.uint8)).save(stream, "PNG")
        content = {70: b"no photo", 71: b"", 72: stream.getvalue()[:99]}.get(number, stream.getvalue())
        rows.append((f"{number:03}.png", content, "cat" if number % 3 else "dog", number // 4, number / 7))
    return pandas.DataFrame(rows, columns=["path", "content", "animal", "owner", "age"])


def _asked(**changed):
    asked = {"x": {"photo": "content", "age": "age"}, "y": "animal", "key": "path", "image_size": (9, 8), "shards": 2}
    return asked | changed


def _written(frame, folder, **asked):
    with pytest.warns(UserWarning, match=r"3 of 240 rows in the .* are skipped \(.*1 empty"):
        splits = write_shards_from(frame, folder, **asked)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "test", "train", "valid"]
    return splits, {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def expected(photos, tmp_path_factory):
    return _written(photos, tmp_path_factory.mktemp("expected") / "shards", **_asked())


def test_the_shards_hold_the_rows_in_proportion(expected, photos):
    splits, _ = expected
    assert splits.skipped == {
        "070.png": "no PNG or JPEG image",
        "071.png": "empty",
        "072.png": splits.skipped["072.png"],
    }
    assert splits.skipped["072.png"].startswith("damaged: ")
    seen = []
    for part, count, dogs in zip((splits.train, splits.valid, splits.test), (165, 24, 48), (55, 8, 16), strict=True):
        (x, y) = part[:]
        assert (len(part), (y == 1).sum()) == (count, dogs)
        for photo, age, label in zip(x["photo"], x["age"], y, strict=True):
            (row,) = np.flatnonzero(photos["age"].to_numpy(np.float32) == age)
            seen.append(row)
            assert splits.classes[label] == photos["animal"][row]
            original = np.asarray(Image.open(io.BytesIO(photos["content"][row])))
            np.testing.assert_array_equal(photo, original * np.float32(1 / 255))
    assert sorted(seen) == sorted(set(range(240)) - {70, 71, 72})


def test_neither_order_nor_pieces_change_a_byte(expected, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("masslib.data.frame_rows._PIECE_BYTES", 5000)
    _, files = _written(photos.sample(frac=1, random_state=1), tmp_path / "shards", **_asked())
    assert files == expected[1]
    _, others = _written(photos, tmp_path / "shards", **_asked(seed=1))  # in the place of the older ones
    assert others.keys() == files.keys() and others != files


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("key", ["path", None])
@pytest.mark.parametrize("partitions", [1, 5])
def test_spark_writes_the_same_bytes(spark, expected, photos, tmp_path, partitions, key):
    frame = spark.createDataFrame(list(photos.itertuples(index=False, name=None)), list(photos.columns))
    _, files = _written(frame.repartition(partitions), tmp_path / "shards", **_asked(key=key))
    alone = expected[1] if key else _written(photos, tmp_path / "alone", **_asked(key=key))[1]
    assert files == alone


@pytest.mark.slow
@pytest.mark.alone
def test_spark_reads_photos_as_from_directory_does(spark, photos, tmp_path):
    for animal, path, content in photos[["animal", "path", "content"]].itertuples(index=False):
        (tmp_path / "photos" / animal).mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / animal / path).write_bytes(content)
    frame = spark.read.format("binaryFile").load(f"{tmp_path}/photos/*")
    frame = frame.selectExpr("content", "regexp_extract(path, '([^/]+/[^/]+)$', 1) AS file")
    frame = frame.selectExpr("*", "split(file, '/')[0] AS animal")
    with pytest.warns(UserWarning, match="2 of 239 rows"):
        splits = write_shards_from(
            frame, tmp_path / "shards", x="content", y="animal", key="file", image_size=(9, 8), shards=3
        )
    with pytest.warns(UserWarning, match="3 of 240 files"):
        local = from_directory(tmp_path / "photos", image_size=(9, 8))
    assert splits.skipped.items() < local.skipped.items()  # Spark passes over empty files
    assert sum(map(len, (splits.train, splits.valid, splits.test))) == 237
    everything = [
        {photo.tobytes() for part in (s.train, s.valid, s.test) for photo in part[:][0]} for s in (splits, local)
    ]
    assert everything[0] == everything[1]


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("blocks", [1, 5])
def test_ray_writes_the_same_bytes(ray, expected, photos, tmp_path, blocks):
    pytest.importorskip("pyarrow", reason="Ray Data needs pyarrow: pip install 'masslib[ray]'")
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    frame = ray.data.from_items(photos.to_dict("records"), override_num_blocks=blocks)
    _, files = _written(frame, tmp_path / "shards", **_asked())
    assert files == expected[1]


def test_groups_stay_together_and_classes_in_proportion(photos, tmp_path):
    whole = photos.drop(index=[70, 71, 72]).assign(matrix=[np.full((2, 2), row).tolist() for row in range(237)])
    splits = write_shards_from(
        whole,
        tmp_path,
        x={"matrix": "matrix", "both": ["owner", "age"]},
        y="animal",
        groups="owner",
        valid=40,
        test=0.3,
    )
    owners = [set(part[:][0]["both"][:, 0]) for part in (splits.train, splits.valid, splits.test)]
    assert not (owners[0] & owners[1] or owners[0] & owners[2] or owners[1] & owners[2])
    assert set.union(*owners) == set(whole["owner"])
    assert abs(len(splits.valid) - 40) <= 4 and abs(len(splits.test) - 71) <= 4
    assert splits.train.input_shape == {"matrix": (2, 2), "both": (2,)}


def test_weights_and_rows_that_are_alike(tmp_path):
    frame = pandas.DataFrame({"a": np.arange(60) % 20, "y": np.linspace(0, 1, 60), "w": np.arange(60) % 20})
    frame["y"] = frame["a"] * 0.5
    splits = write_shards_from(frame, tmp_path, x="a", y="y", sample_weight="w", shards=1)
    for part in (splits.train, splits.valid, splits.test):
        x, y, weight = part[:]
        np.testing.assert_array_equal(y, x * np.float32(0.5))
        np.testing.assert_array_equal(weight, x)
    # Alike is alike: no row is on two sides.
    assert not set(splits.train[:][0]) & set(splits.test[:][0])
    np.testing.assert_array_equal(read_shards(tmp_path / "train")[:][0], splits.train[:][0])


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"x": "age", "key": "owner"}, ValueError, "'owner' has 177 values that come more than once"),
        ({"x": "none"}, ValueError, "'none' is no column; there are"),
        ({"image_size": None}, ValueError, "pass image_size="),
        ({"x": "animal"}, TypeError, "'animal' holds text, expected numbers"),
        ({"x": "owner", "y": "gap"}, ValueError, "column 'gap' misses a value"),
        ({"x": "ragged"}, ValueError, "rows of shape"),
        ({"x": "age", "y": None, "test": 2.0}, ValueError, "test is 2.0"),
    ],
)
def test_what_cannot_be_written_is_refused(photos, tmp_path, changed, error, message):
    frame = photos.drop(index=[70, 71, 72]).assign(gap=np.where(np.arange(237) == 9, np.nan, 1.0))
    frame["ragged"] = [[1.0] * (1 + row % 2) for row in range(237)]
    with pytest.raises(error, match=message):
        write_shards_from(frame, tmp_path / "shards", **_asked(**changed))
    assert not os.listdir(tmp_path)


def test_what_is_no_frame_is_refused(tmp_path):
    with pytest.raises(TypeError, match="frame is a list, expected a DataFrame of Spark"):
        write_shards_from([1], tmp_path, x="a")
