"""Tables: what the training rows teach, applied to all rows."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pandas
import pytest
import tensorflow as tf

from masslib.data import Splits, from_arrays, from_dataframe, load, ragged, read_shards, write_shards
from masslib.data.table import encoded, table

FILE = Path(__file__).resolve().parents[1] / "data" / "adult" / "adult.csv.gz"


def rows(ages, jobs):
    return table(pandas.DataFrame({"age": ages, "job": jobs, "rich": ["no"] * len(ages)}), "rich", ["no", "yes"])


def test_the_training_rows_alone_decide():
    train = rows([10, 20, 30, None], ["cook", "judge", None, "cook"])
    other = rows([50, None], ["pilot", "judge"])
    splits = encoded(Splits(train, other, other, ["no", "yes"]), ["age", "job"], ["age"])
    assert splits.columns == ["age", "job=cook", "job=judge", "job=nan"]
    spread = np.std([10, 20, 30, 20])  # the missing age is the median
    np.testing.assert_allclose(splits.train[:][0][:, 0] * spread + 20, [10, 20, 30, 20], rtol=1e-6)
    np.testing.assert_array_equal(splits.train[:][0][:, 1:], [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    # A pilot is nobody the training rows know; the median and the spread stay theirs.
    np.testing.assert_allclose(splits.test[:][0], [[30 / spread, 0, 0, 0], [0, 0, 1, 0]], rtol=1e-6)
    assert splits.test[:][0].dtype == np.float32


def test_labels_must_be_known():
    with pytest.raises(ValueError, match=r"column 'y' holds 'maybe', expected one of \['no', 'yes'\]"):
        table(pandas.DataFrame({"x": [1, 2], "y": ["no", "maybe"]}), "y", ["no", "yes"])


def test_adult():
    splits = load("adult")
    assert repr(splits) == "Splits(train=31654, valid=4523, test=9045, classes=['<=50K', ...])"
    assert splits.classes == ["<=50K", ">50K"] and splits.input_shape == (len(splits.columns),) == (103,)
    assert splits.columns[:6] == ["age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week"]
    x, y = splits.train[:]
    np.testing.assert_allclose(x[:, :6].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(x[:, :6].std(axis=0), 1, atol=1e-3)
    assert set(np.unique(x[:, 6:])) == {0, 1} and (x[:, 6:].sum(axis=1) == 8).all()
    for part in (splits.train, splits.valid, splits.test):
        assert part.y.mean() == pytest.approx(11208 / 45222, abs=1e-4)
    # Each column is what its name says.
    table = pandas.read_csv(FILE)
    parts = np.concatenate([part[:][0] for part in (splits.train, splits.valid, splits.test)])
    for name in ("sex=Female", "workclass=State-gov", "education=Doctorate"):
        column, _, value = name.partition("=")
        assert parts[:, splits.columns.index(name)].sum() == (table[column] == value).sum()
    doctors = x[x[:, splits.columns.index("education=Doctorate")] == 1]
    assert len(np.unique(doctors[:, 2])) == 1  # education-num repeats education
    assert len(load("adult", valid=2000, test=3000, seed=1).train) == 40222


def test_the_file_is_what_the_readme_says():
    data = FILE.read_bytes()
    text = (FILE.parents[1] / "README.md").read_text()
    assert f"`adult.csv.gz` | {len(data):,} | `{hashlib.sha256(data).hexdigest()}`" in text
    lines = gzip.decompress(data).decode("ascii").splitlines()
    assert len(lines) == 1 + 45_222 and "?" not in "".join(lines) and "45,222" in text
    assert all(f"`{name}`" in text for name in lines[0].split(","))


def test_without_the_file_the_place_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"adult.csv.gz from the repository of masslib, where it is in data/"):
        load("adult", folder=tmp_path)
    (tmp_path / "adult.csv.gz").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"adult.csv.gz is damaged.*again from the repository of masslib"):
        load("adult", folder=tmp_path)


def test_a_data_frame_is_what_from_arrays_makes_of_its_columns():
    frame = pandas.DataFrame({"age": [30, 50, 20], "tall": [True, False, True], "h": [1.6, 1.8, 1.7]})
    frame = frame.assign(job=["judge", "cook", "judge"], grade=[2, 0, 1], price=[0.5, 1.0, 2.0])
    numbers = ["age", "tall", "h"]
    subset = from_dataframe(frame[[*numbers, "job"]], y="job")
    assert repr(subset) == "Subset(3 rows of (3,), float32, labels int32, 2 classes)"
    assert (subset.classes, subset.y.tolist()) == (["cook", "judge"], [1, 0, 1])
    np.testing.assert_allclose(subset[:][0], frame[numbers].to_numpy(float), rtol=1e-6)
    chosen = from_dataframe(frame[[*numbers, "job"]].astype({"job": "category"}), "job", classes=["judge", "cook"])
    assert chosen.y.tolist() == [0, 1, 0]
    ids = from_dataframe(frame[["age", "grade"]] + 2**24, y="grade")
    assert ids[:][0].ravel().tolist() == [2**24 + 30, 2**24 + 50, 2**24 + 20] and ids.y.dtype == np.int64
    assert from_dataframe(frame[[*numbers, "price"]].convert_dtypes(), y="price").y.tolist() == [0.5, 1, 2]
    pair = frame[numbers].to_numpy(float), [1, 0, 1]
    assert Splits.from_arrays(subset, pair, pair).classes == ["cook", "judge"]
    for wrong, y, error, words in (
        (frame, "price", ValueError, r"columns \['job'\] hold no numbers; encode them first"),
        (frame, "wage", ValueError, r"y is 'wage', expected one of the columns \['age', "),
        (
            frame.to_numpy(),
            "price",
            TypeError,
            "frame is a ndarray, expected a pandas.DataFrame; for arrays: from_arrays",
        ),
        (frame[["age", "job"]].replace("cook", None), "job", ValueError, "column 'job' holds .*, expected one of"),
        (frame[["h", "grade"]].replace(1.6, np.nan), "grade", ValueError, "x holds NaN .* first in row 0"),
    ):
        with pytest.raises(error, match=words):
            from_dataframe(wrong, y)


FRAME = pandas.DataFrame(
    {
        "age": [30, 50, 20, 40],
        "tall": [True, False, True, True],
        "h": [1.6, 1.8, 1.7, 1.9],
        "job": ["judge", "cook", "judge", "pilot"],
        "words": [[1, 2], [3], [4, 5, 6], [7]],
        "grade": [2, 0, 1, 1],
        "price": [0.5, 1.0, 2.0, 4.0],
        "weight": [1.0, 2.0, 0.5, 1.0],
    }
)


def same(found, expected):
    tf.nest.assert_same_structure(found, expected)
    for a, b in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_columns_become_named_inputs_and_outputs(tmp_path):
    subset = from_dataframe(
        FRAME,
        x={"age": "age", "body": ["tall", "h"], "job": "job", "words": ragged(FRAME["words"])},
        y={"kind": "job", "grade": "grade", "both": ["price", "h"]},
        sample_weight="weight",
        classes={"kind": ["pilot", "judge", "cook"], "grade": ["low", "middle", "high"]},
    )
    expected = from_arrays(
        {
            "age": FRAME["age"].to_numpy(),
            "body": FRAME[["tall", "h"]].to_numpy(np.float32),
            "job": ["judge", "cook", "judge", "pilot"],
            "words": ragged(FRAME["words"]),
        },
        {"kind": np.int32([1, 2, 1, 0]), "grade": [2, 0, 1, 1], "both": FRAME[["price", "h"]].to_numpy(np.float32)},
        FRAME["weight"],
    )
    same(subset[:], expected[:])
    assert subset.classes == {"kind": ["pilot", "judge", "cook"], "grade": ["low", "middle", "high"], "both": None}
    back = read_shards(write_shards(subset, tmp_path / "shards", shards=2))
    same(back[:], subset[:])
    for found, other in zip(back.batches(3, seed=1), expected.batches(3, seed=1), strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, found, other)


def test_what_is_left_is_the_matrix():
    numbers = FRAME.drop(columns=["job", "words"])
    subset = from_dataframe(numbers, y=["grade", "age"], sample_weight="weight")
    same(subset[:], (numbers[["tall", "h", "price"]].to_numpy(np.float32), *subset[:][1:]))
    assert subset.y.tolist() == FRAME[["grade", "age"]].values.tolist() and subset.y.dtype == np.int64
    alone = from_dataframe(numbers.convert_dtypes(), x=["age", "grade"])
    assert (
        alone.y is None
        and alone[:][0].dtype == np.int64
        and alone[:][0].tolist() == [[30, 2], [50, 0], [20, 1], [40, 1]]
    )
    assert from_dataframe(FRAME, "job", x="age")[:][0].shape == (4,)
    category = from_dataframe(FRAME.astype({"job": "category"}), x={"job": "job"}, y={"a": "grade", "b": "price"})
    assert category[:][0]["job"].tolist() == FRAME["job"].tolist() and category.classes is None


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"x": {"a": "wage"}, "y": "grade"}, ValueError, r"x\['a'\] is 'wage', expected one of the columns \['age', "),
        ({"x": {"a": ["age", "job"]}}, ValueError, r"columns \['job'\] hold no numbers.* such as {'job': 'job'}"),
        ({"x": {"a": "words"}}, ValueError, r"column 'words' holds \[1, 2\], .* as ragged\(frame\[...\]\)"),
        (
            {"x": "age", "y": {"k": "job"}, "classes": ["a"]},
            ValueError,
            r"classes is \['a'\], and the labels are \['k'\]",
        ),
        ({"x": "age", "y": {"k": "job"}, "classes": {"k": ["cook"]}}, ValueError, "column 'job' holds 'judge'"),
        ({"x": {"a": np.zeros(4)}}, TypeError, r"x\['a'\] is a ndarray, expected a column, a list of columns"),
        ({"x": "age", "y": "grade", "sample_weight": "job"}, ValueError, r"columns \['job'\] hold no numbers"),
        ({"x": []}, ValueError, "x is an empty list"),
        ({"y": list(FRAME.columns)}, ValueError, "all of them in y or sample_weight"),
    ],
)
def test_columns_that_cannot_be_fields_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        from_dataframe(FRAME, **options)


def test_missing_values_are_named():
    holes = FRAME.convert_dtypes().assign(age=pandas.array([1, None, 3, 4], "Int64"), job=["a", None, "b", None])
    with pytest.raises(ValueError, match=r"x\['age'\] holds NaN .* in 1 rows, first in row 1"):
        from_dataframe(holes, x={"age": "age"})
    with pytest.raises(ValueError, match="column 'job' misses 2 values, first in row 1; fill them"):
        from_dataframe(holes, x={"job": "job"})
    with pytest.raises(ValueError, match="y is 'a', which several columns are called"):
        from_dataframe(pandas.DataFrame(np.zeros((2, 3)), columns=["a", "a", "b"]), y="a")
