"""A compressed model survives the disk, and damage is told."""

import copy
import json

import numpy as np
import pytest

import masslib
from masslib import Cluster, Compressed, Prune, Quantize, QuantizeAware, compress, export, models
from masslib._util import manifest


@pytest.fixture(scope="module")
def model(digits):
    model = models.mlp(digits.input_shape, digits.num_classes, hidden=(32,))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        [Prune(0.5, "constant", max_steps=4), Quantize("int8", calibration_rows=20)],
        [Cluster(8, min_share=0.2, max_steps=4), QuantizeAware(max_steps=4)],
    ],
    ids=["keras", "tf_keras"],
)
def test_what_comes_back_answers_the_same(model, digits, tmp_path, recipe):
    small = compress(model, recipe, digits.train, verbose=False)
    for _ in "ab":  # the second time replaces the first
        small.save(tmp_path / "small")
    again = Compressed.load(tmp_path / "small")
    assert again.steps == small.steps == tuple(recipe)
    assert again.skipped == small.skipped
    assert again.precision == small.precision == "int8"
    again.save(tmp_path / "once_more")
    once_more = Compressed.load(tmp_path / "once_more")
    x = digits.test[:][0]
    answers = [
        export.load(export.tflite(one, tmp_path / f"{number}.tflite")).predict(x)
        for number, one in enumerate([small, again, once_more])
    ]
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["once_more", "small"]


@pytest.mark.slow
@pytest.mark.parametrize("step", [Quantize("int8"), Quantize("dynamic"), QuantizeAware(max_steps=2)], ids=repr)
def test_it_is_judged_by_the_file_that_would_be_written(model, digits, tmp_path, step):
    small = compress(model, step, digits.train, verbose=False)
    x, _ = digits.test[:]
    file = export.load(export.tflite(small, tmp_path / "small.tflite"))
    np.testing.assert_array_equal(small.predict(x), file.predict(x))
    written = small._file.path
    assert small.predict(x[:3]).shape == (3, 10) and small._file.path == written  # written once
    assert masslib.evaluate(small, digits.test) == masslib.evaluate(file, digits.test)
    assert np.abs(small.predict(x) - np.asarray(small.model(x))).max() > 0
    np.testing.assert_array_equal(copy.copy(small).predict(x), small.predict(x))
    del small
    assert not written.parent.exists()


@pytest.fixture
def folder(model, digits, tmp_path):
    compress(model, Quantize("int8"), digits.train).save(tmp_path / "small")
    return tmp_path / "small"


@pytest.mark.parametrize("name", ["model.keras", "calibration.npz", "manifest.json"])
def test_damage_is_told(folder, name):
    whole = (folder / name).read_bytes()
    middle = len(whole) // 2
    flipped = bytes([whole[middle] ^ 1])
    for damaged in (whole[:middle] + flipped + whole[middle + 1 :], whole[:-1], b""):
        (folder / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"damaged|no whole {name}"):
            Compressed.load(folder)
    (folder / name).unlink()
    with pytest.raises(ValueError, match=rf"{name} is missing|no whole {name}"):
        Compressed.load(folder)
    (folder / name).write_bytes(whole)
    assert Compressed.load(folder).precision == "int8"


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a folder that Compressed.save has written"):
        Compressed.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"holds no whole manifest.json; make or copy the folder again"):
        Compressed.load(tmp_path)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"step": "Entangle"}, r"small holds the step 'Entangle', which this masslib does not have; update masslib"),
        ({"step": "annotations"}, "small holds the step 'annotations', which this masslib does not have"),
        (
            {"step": "Quantize", "precision": "int8", "bits": 3},
            r"'Quantize' with settings .*\(precision, bits\); update",
        ),
    ],
)
def test_a_step_of_a_newer_masslib_is_named(folder, step, words):
    facts = json.loads((folder / "manifest.json").read_text())
    manifest.write(folder, **{key: facts[key] for key in facts if key not in ("files", "seal")} | {"steps": [step]})
    with pytest.raises(ValueError, match=words):
        Compressed.load(folder)


def test_a_folder_with_files_of_others_is_refused(model, digits, tmp_path):
    (tmp_path / "thesis.docx").write_text("mine")
    with pytest.raises(ValueError, match="masslib did not write, which would be lost: thesis.docx"):
        compress(model, Quantize("dynamic"), digits.train).save(tmp_path)
    assert (tmp_path / "thesis.docx").read_text() == "mine"
