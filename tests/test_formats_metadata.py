"""Labels and a description travel inside the files, and a batch can be fixed."""

import zipfile

import numpy as np
import pytest
import tf_keras
from ai_edge_litert.interpreter import Interpreter

from masslib import bridge, export, models
from masslib.compression.tfmot.toolkit import tfmot

LABELS = ["Katze", "Hündin", "émeu 3"]


@pytest.fixture(scope="module")
def model():
    return models.mlp((16,), 3)


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).random((10, 16), "float32")


def test_labels_and_description_lie_inside_the_file(model, rows, tmp_path):
    path = export.tflite(model, tmp_path / "model.tflite", labels=LABELS, description="Tells animals by their voices.")
    assert zipfile.ZipFile(path).read("labels.txt").decode().splitlines() == LABELS
    found = export.inspect(path)
    assert (found.labels, found.description) == (LABELS, "Tells animals by their voices.")
    assert "3 labels; Tells animals" in repr(found)
    predictor = export.load(path)
    assert predictor.labels == LABELS
    np.testing.assert_allclose(predictor.predict(rows), model(rows), atol=1e-6)
    interpreter = Interpreter(model_path=str(path))
    assert list(interpreter.get_signature_list()) == ["serving_default"]
    # The archive at the end is under the seal, too.
    content = path.read_bytes()
    path.write_bytes(content.replace("Hündin".encode(), "Hühner".encode()))
    with pytest.raises(ValueError, match="is damaged: its SHA-256"):
        export.load(path)


def test_a_file_without_labels_has_none(model, tmp_path):
    path = export.tflite(model, tmp_path / "model.tflite", description="alone")
    assert export.load(path).labels is None
    assert (export.inspect(path).labels, export.inspect(path).description) == (None, "alone")


@pytest.mark.slow
def test_the_same_model_gives_the_same_bytes(model, tmp_path):
    paths = [export.tflite(model, tmp_path / f"{name}.tflite", labels=LABELS, description="x") for name in "ab"]
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("write", [export.tflite, export.saved_model])
@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        (["cat", "dog"], ValueError, "there are 2 labels, but the model has 3 outputs"),
        ("cat", TypeError, "labels='cat': expected a list of strings"),
        ([0, 1, 2], TypeError, r"labels=\[0, 1, 2\]: expected a list of strings"),
        (["cat", "dog", "e\nmu"], ValueError, r"the labels \['e\\nmu'\] are empty or longer than a line"),
        (["cat", "", "emu"], ValueError, r"the labels \[''\] are empty"),
    ],
)
def test_labels_that_name_nothing_are_refused(model, tmp_path, write, labels, error, words):
    with pytest.raises(error, match=words):
        write(model, tmp_path / "model.tflite", labels=labels)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_fixed_batch_has_no_open_dimension(model, rows, tmp_path):
    aware = tfmot().quantization.keras.quantize_model(bridge.to_tf_keras(model))
    aware.compile("sgd", "mse")
    aware.fit(rows, np.eye(3)[np.arange(10) % 3], verbose=0)
    for name, network in {"keras": model, "aware": aware}.items():
        path = export.tflite(network, tmp_path / f"{name}.tflite", batch_size=4)
        interpreter = Interpreter(model_path=str(path))
        assert interpreter.get_input_details()[0]["shape_signature"].tolist() == [4, 16]
        runner = interpreter.get_signature_runner("serving_default")
        (entry,) = runner.get_input_details()
        (answer,) = runner(**{entry: rows[:4]}).values()
        expected = network.predict(rows, verbose=0)
        np.testing.assert_allclose(answer, expected[:4], atol=0.05)
        np.testing.assert_allclose(export.load(path).predict(rows), expected, atol=0.05)
    assert isinstance(aware, tf_keras.Model)


@pytest.mark.parametrize("write", [export.tflite, export.saved_model])
@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True])
def test_a_batch_that_is_no_number_is_refused(model, tmp_path, write, batch_size):
    with pytest.raises(ValueError, match=f"batch_size={batch_size}: expected a positive integer, or None"):
        write(model, tmp_path / "model.tflite", batch_size=batch_size)
