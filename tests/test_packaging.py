"""A package tells the truth about its files, and `verify` finds every change."""

import hashlib
import json
import re
import shutil

import keras
import numpy as np
import pytest

import masslib
from masslib import Prune, Quantize, compress, data, export, models
from masslib._util import manifest


@pytest.fixture(scope="module")
def splits():
    return masslib.data.load("digits")


@pytest.fixture(scope="module")
def model(splits):
    model = models.mlp(splits.input_shape, splits.num_classes)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, 1000)),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    masslib.fit(model, splits.train, batch_size=64, epochs=3, verbose=0)
    return model


@pytest.fixture(scope="module")
def folder(model, splits, tmp_path_factory):
    return masslib.package(
        model,
        tmp_path_factory.mktemp("bundle") / "digits" / "1",
        splits,
        formats=["keras", "saved_model", "tflite", "tflite-int8"],
        description="Reads handwritten digits.",
        limitations="Not for cheques.",
        training={"epochs": 3, "batch_size": 64},
        verbose=False,
    )


def test_the_manifest_says_what_can_be_measured_again(folder, model, splits):
    facts = json.loads((folder / "manifest.json").read_text())
    assert (facts["name"], facts["description"]) == ("digits", "Reads handwritten digits.")
    assert facts["training"]["epochs"] == 3 and facts["training"]["optimizer"]["class"] == "Adam"
    assert facts["packages"]["keras"].startswith("3.")
    assert (facts["model"]["weights"], facts["model"]["input_shape"]) == (model.count_params(), [8, 8, 1])
    for entry in facts["models"].values():
        path = folder / entry["file"]
        result = masslib.evaluate(path, splits.test)
        assert entry["metrics"] == pytest.approx(result.metrics, abs=1e-6)
        assert entry["accuracy_interval"] == pytest.approx(result.accuracy_interval)
        assert entry["bytes"] == masslib.measure.file_size(path).raw
        assert 0 < entry["median_ms"] <= entry["p95_ms"]
    on_disk = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert set(facts["files"]) == on_disk - {"manifest.json"}
    for name, entry in facts["files"].items():
        assert entry["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_the_card_says_it_to_people(folder, splits):
    card = (folder / "MODEL_CARD.md").read_text()
    for title in ("Model details", "Intended use", "Limitations", "Data", "Results", "How to use it", "Made with"):
        assert f"\n## {title}\n" in card
    accuracy = masslib.evaluate(folder / "int8.tflite", splits.test).accuracy
    (row,) = [line for line in card.splitlines() if line.startswith("| `int8.tflite`")]
    assert row.split("|")[2].strip().startswith(f"{accuracy:.4f} [")
    assert re.search(r"^- optimizer: \w+\(learning_rate=.*\)$", card, re.MULTILINE), card
    assert " kB, gzipped " in row and "class_name" not in card
    assert "Reads handwritten digits." in card and "Not for cheques." in card and "- batch_size: 64" in card


def test_the_checksum_is_that_of_the_data(folder, model, splits, tmp_path):
    said = json.loads((folder / "manifest.json").read_text())["data"]
    x, y = splits.test[:]
    assert said["test"]["rows"] == len(y)
    assert said["test"]["sha256"] == hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()
    assert len({said[part]["sha256"] for part in ("train", "valid", "test")}) == 3


def test_an_intact_package_answers_as_it_did(folder):
    table = masslib.verify(folder)
    assert table["file"].tolist() == ["model.keras", "saved_model", "float32.tflite", "int8.tflite"]
    assert set(table["answers"]) == {"as when it was packaged"}
    for file in table["file"]:
        with export.load(folder / file) as predictor:
            assert predictor.labels == (None if file == "model.keras" else list("0123456789"))


def test_every_change_is_found(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a folder that masslib.package has written"):
        masslib.verify(tmp_path / "nothing")
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "MODEL_CARD.md").write_text("It is perfect.")
    (copy / "float32.tflite").unlink()
    with pytest.raises(ValueError, match="is damaged: MODEL_CARD.md was changed, float32.tflite is missing"):
        masslib.verify(copy)
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    (copy / "extra.tflite").write_text("stowaway")
    with pytest.raises(ValueError, match="holds files that its manifest does not name: extra.tflite; remove them"):
        masslib.verify(copy)
    (copy / "extra.tflite").unlink()
    said = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(said.replace("Not for cheques", "Best for cheques"))
    with pytest.raises(ValueError, match="manifest.json is damaged: its SHA-256"):
        masslib.verify(copy)
    manifest.write(copy, **manifest_facts(folder) | {"format": "masslib package 3"})
    with pytest.raises(ValueError, match="has the format 'masslib package 3', and verify of this masslib reads"):
        masslib.verify(copy)
    manifest.write_sealed(copy / "manifest.json", {"format": "masslib package 2"})
    with pytest.raises(ValueError, match="manifest.json is no manifest of this kind: it names no files"):
        masslib.verify(copy)


def test_other_answers_are_found_even_if_all_checksums_are_right(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    with np.load(copy / "golden.npz") as golden:
        arrays = dict(golden)
    facts = manifest_facts(copy)
    key = facts["golden"]["outputs"]["tflite"]
    arrays[key] = arrays[key][::-1]
    np.savez(copy / "golden.npz", **arrays)
    with pytest.raises(ValueError, match="golden.npz is missing or was changed"):
        masslib.packaging.golden(copy)
    manifest.write(copy, **facts)
    with pytest.raises(ValueError, match="float32.tflite is intact, but answers otherwise than when it was packaged"):
        masslib.verify(copy)


def test_the_golden_rows_are_those_that_were_passed(model, splits, tmp_path):
    rows = splits.train[5:8][0]
    folder = masslib.package(model, tmp_path / "it", splits, formats=["keras"], examples=rows, verbose=False)
    golden = masslib.packaging.golden(folder)
    np.testing.assert_array_equal(golden.inputs, rows)
    np.testing.assert_allclose(golden.outputs["keras"], model(rows), atol=1e-6)
    assert manifest_facts(folder)["golden"]["rows"] == 3
    with pytest.raises(FileNotFoundError, match="is not a folder that masslib.package has written"):
        masslib.packaging.golden(tmp_path / "nothing")


def test_golden_rows_of_any_structure_are_kept_without_pickle(tmp_path):
    from masslib.packaging import Golden, _golden, golden

    inputs = {"ids": np.arange(6).reshape(3, 2), "text": np.array(["a", "bc", "ü"], object)}
    outputs = {"it": [np.ones((3, 2), "float32"), {"kind": (np.array([True, False, True]),)}]}
    told = _golden.write(tmp_path, Golden(inputs, outputs))
    manifest.write(tmp_path, format=_golden.FORMAT, golden=told)
    read = golden(tmp_path)
    assert read.inputs["ids"].dtype == "int64" and read.inputs["text"].tolist() == ["a", "bc", "ü"]
    np.testing.assert_array_equal(read.inputs["ids"], inputs["ids"])

    class Answering:
        path = "it"

        def __init__(self, kinds, probability=1.0):
            self.answer = [np.full((3, 2), probability, "float32"), {"kind": (np.array(kinds),)}]

        def predict(self, x):
            assert x["text"].shape == (3,)
            return self.answer

    read.check("it", Answering([True, False, True], 1.01))
    with pytest.raises(ValueError, match=r"it is intact, but answers otherwise .* difference 0.333 of output 1/kind/0"):
        read.check("it", Answering([True, True, True]))
    with pytest.raises(ValueError, match="difference 0.5 of output 0; compare the versions"):
        read.check("it", Answering([True, False, True], 1.5))
    with pytest.raises(ValueError, match=r"answers 0 \(3, 2\), 1/kind/0 \(1,\), and when it was packaged"):
        read.check("it", Answering([True]))


@pytest.mark.slow
def test_photos_are_scaled_as_in_the_splits(tmp_path):
    import tensorflow as tf

    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8)
    part = data.from_arrays(pixels, [0, 1, 0, 1], classes=["no", "yes"], scale=1)
    model = models.mlp((8, 8, 1), 2)
    photo = tf.io.encode_png(pixels[0])[None]
    for scale, factor in ((None, 1.0), (0.5, 0.5)):
        splits = data.Splits(part, part, part, ["no", "yes"])
        folder = masslib.package(model, tmp_path / "it", splits, formats=["saved_model"], scale=scale, verbose=False)
        classify = tf.saved_model.load(str(folder / "saved_model")).signatures["classify"]
        answer = classify(images=photo)["probabilities"].numpy()
        expected = -np.sort(-np.asarray(model(pixels[:1] * np.float32(factor))))
        np.testing.assert_allclose(answer, expected, atol=1e-6)


@pytest.mark.parametrize(
    "pixels, scale, expected",
    [
        (np.array([0, 255], "uint8"), None, np.float32(1 / 255)),
        (np.array([0, 255], "uint8"), 1, 1),
        (np.array([3, 16], "uint8"), 1 / 16, 1 / 255),
        (np.array([0, 1], "uint8"), None, None),  # 1/255 at most: white is not known
        (np.array([0, 0.25, 1], "float32"), None, 1 / 255),
        (np.array([0, 100, 255], "float32"), None, 1),
        (np.array([0, 255], "int32"), 1 / 255, np.float32(1 / 255)),
        (np.array([-1, 1], "float32"), None, None),
        (np.array([0, 0.75], "float32"), None, None),
    ],
)
def test_the_scale_of_photos_comes_from_the_rows(pixels, scale, expected):
    from masslib.packaging import preprocessing

    images = np.resize(pixels, (6, 4, 4, 3))
    found = preprocessing.known_scale(data.from_arrays(images, scale=scale).rows)
    assert found == (None if expected is None else pytest.approx(float(expected), rel=1e-7))
    assert preprocessing.known_scale(data.from_arrays(images[..., 0], scale=scale).rows) is None  # no images
    assert preprocessing.known_scale(data.from_arrays({"a": images}, scale=scale and {"a": scale}).rows) is None


@pytest.mark.slow
def test_images_of_an_unknown_scale_are_packaged_without_photos(tmp_path):
    import tensorflow as tf

    x = np.random.default_rng(0).normal(size=(8, 4, 4, 1)).astype("float32")
    part = data.from_arrays(x, [0, 1] * 4, classes=["no", "yes"])
    splits = data.Splits(part, part, part, ["no", "yes"])
    folder = masslib.package(models.mlp((4, 4, 1), 2), tmp_path / "it", splits, formats=["saved_model"], verbose=False)
    assert manifest.read(folder)["preprocessing"] is None
    assert "takes none" in (folder / "MODEL_CARD.md").read_text()
    assert list(tf.saved_model.load(str(folder / "saved_model")).signatures) == ["serving_default"]


def manifest_facts(folder):
    facts = json.loads((folder / "manifest.json").read_text())
    return {key: value for key, value in facts.items() if key not in ("files", "seal")}


def test_a_compressed_model_keeps_its_recipe(model, splits, tmp_path):
    steps = [Prune(0.5, max_steps=3), Quantize("dynamic")]
    small = compress(model, steps, splits.train, batch_size=64, verbose=False)
    folder = masslib.package(small, tmp_path / "small", splits, verbose=False)
    facts = json.loads((folder / "manifest.json").read_text())
    assert facts["model"]["recipe"] == [repr(step) for step in steps]
    assert facts["training"]["loss"] == "sparse_categorical_crossentropy"
    assert masslib.verify(folder)["file"].tolist() == ["dynamic.tflite"]
    with pytest.raises(
        ValueError, match="a Compressed model has its own precision and becomes a file 'tflite' or 'packed'"
    ):
        masslib.package(small, tmp_path / "other", splits, formats=["tflite", "keras"])


def test_a_sparse_file_is_the_same_network_without_its_zeros(tmp_path):
    splits = masslib.data.load("digits")
    model = models.mlp(splits.input_shape, splits.num_classes)
    for weight in model.weights:
        if len(weight.shape) == 2:
            weight.assign(np.where(np.random.default_rng(0).random(weight.shape) < 0.95, 0, weight.numpy()))
    folder = masslib.package(model, tmp_path / "it", splits, formats=["tflite", "tflite-sparse"], verbose=False)
    dense, sparse = folder / "float32.tflite", folder / "sparse.tflite"
    assert sparse.stat().st_size < dense.stat().st_size / 3
    rows = masslib.packaging.golden(folder)
    np.testing.assert_allclose(rows.outputs["tflite-sparse"], rows.outputs["tflite"], atol=1e-5)


def test_wrong_wishes_leave_nothing_behind(model, splits, tmp_path):
    for formats in ([], "tflite", ["tflite", "coreml"]):
        with pytest.raises(ValueError, match="expected a list of some of keras, saved_model, tflite"):
            masslib.package(model, tmp_path / "x", splits, formats=formats)
    with pytest.raises(TypeError, match="expected a Keras model, got str"):
        masslib.package("model", tmp_path / "x", splits)
    other = data.Splits(splits.train, splits.valid, splits.test, ["one", "two"])
    with pytest.raises(ValueError, match="there are 2 labels, but the model has 10 outputs"):
        masslib.package(model, tmp_path / "x", other, verbose=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_model_of_several_inputs_and_outputs_is_packaged(tmp_path):
    rng = np.random.default_rng(0)
    word, price = keras.Input((None,), dtype="int32", name="word"), keras.Input((2,), name="price")
    table = keras.layers.Embedding(20, 4)(word)
    x = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling1D()(table), price])
    outputs = {"kind": keras.layers.Dense(3, activation="softmax")(x), "size": keras.layers.Dense(1)(x)}
    model = keras.Model({"word": word, "price": price}, outputs, name="shop")
    model.compile("adam", {"kind": "sparse_categorical_crossentropy", "size": "mse"})
    part = data.from_arrays(
        {"word": rng.integers(0, 20, (40, 5)).astype("int32"), "price": rng.random((40, 2))},
        {"kind": np.arange(40) % 3, "size": rng.random((40, 1))},
    )
    splits = data.Splits(part, part, part, None)
    formats = ["keras", "saved_model", "tflite", "tflite-int8"]
    folder = masslib.package(model, tmp_path / "shop", splits, formats=formats, verbose=False)
    assert set(masslib.verify(folder)["answers"]) == {"as when it was packaged"}
    facts = manifest_facts(folder)
    assert facts["model"]["input_shape"] == {"word": [None], "price": [2]}
    assert facts["training"]["loss"] == {"kind": "sparse_categorical_crossentropy", "size": "mse"}
    assert {"kind/accuracy", "size/mae"} <= set(facts["models"]["tflite"]["metrics"])
    golden = masslib.packaging.golden(folder)
    assert golden.inputs["word"].dtype == "int32" and golden.outputs["tflite"]["kind"].shape == (16, 3)
    assert "word (n, any), price (n, 2)" in (folder / "MODEL_CARD.md").read_text()
    files = {name: folder / facts["models"][name]["file"] for name in formats}
    table = masslib.agreement(model, files, part)
    assert set(table.loc["model"].index) == {"kind", "size"}
    assert table.loc[("tflite", "kind"), "top1_agreement"] == 1 and table.loc["saved_model", "largest"].max() < 1e-5
    assert np.isnan(table.loc[("tflite", "size"), "accuracy"])
    assert table.loc[("keras", "kind"), "accuracy"] == masslib.evaluate(model, part)["kind"].accuracy


def test_a_package_of_texts_holds_the_vocabulary_and_how_to_use_it(tmp_path):
    texts, y = ["call me later", "free prize call", "see you later", "prize for free"] * 5, [0, 1, 0, 1] * 5
    vectorizer = keras.layers.TextVectorization(output_sequence_length=4)
    vectorizer.adapt(texts)
    rows = data.from_arrays(np.asarray(vectorizer(texts), "int32"), np.array(y), classes=["ham", "spam"])
    model = keras.Sequential(
        [keras.Input((4,), dtype="int32"), keras.layers.Embedding(vectorizer.vocabulary_size(), 3)]
        + [keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")]
    )
    model.compile(loss="sparse_categorical_crossentropy")
    splits = data.Splits(rows, rows, rows, classes=["ham", "spam"])
    options = {"formats": ["tflite", "saved_model"], "verbose": False}
    folder = masslib.package(model, tmp_path / "texts", splits, vectorizer=vectorizer, **options)
    told = json.loads((folder / "manifest.json").read_text())["text"]
    tokens = json.loads((folder / told["vocabulary"]).read_text())
    ids = [tokens.index(word) for word in ["free", "call"]] + [0] * (told["output_sequence_length"] - 2)
    np.testing.assert_array_equal(vectorizer(["free call"])[0], ids)
    assert "keras.layers.TextVectorization" in (folder / "MODEL_CARD.md").read_text()
    assert masslib.verify(folder)["answers"].eq("as when it was packaged").all()
    own = keras.layers.TextVectorization(output_sequence_length=4, standardize=lambda text: text)
    own.adapt(texts)
    with pytest.raises(ValueError, match="standardize are functions"):
        masslib.package(model, tmp_path / "own", splits, vectorizer=own, **options)
    # Nothing but the shape can tell it where no SavedModel is written.
    short = keras.layers.TextVectorization(output_sequence_length=3, vocabulary=["call"])
    with pytest.raises(ValueError, match=r"makes \(3,\) of a text, but model '.*' takes \(4,\)"):
        masslib.package(model, tmp_path / "own", splits, vectorizer=short, formats=["tflite"])
    assert not (tmp_path / "own").exists()
