"""ONNX files answer as the model, in ONNX Runtime alone, too."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from masslib import Compressed, Quantize, compress, export, measure, models

onnx = pytest.importorskip("onnx", reason="needs the extra `onnx`")
pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")
pytest.importorskip("tf2onnx", reason="needs the extra `onnx`")

LABELS = [f"class {number}" for number in range(10)]

CLIENT = """
import sys
for name in ("masslib", "tensorflow", "keras", "tf_keras"):
    sys.modules[name] = None
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
(answer,) = session.run(None, {session.get_inputs()[0].name: np.load(sys.argv[2])})
np.save(sys.argv[3], answer)
"""


@pytest.fixture(scope="module")
def model():
    return models.lenet5((28, 28, 1), 10)


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).random((64, 28, 28, 1), "float32"), np.arange(64) % 10


@pytest.fixture(scope="module")
def files(model, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    small = compress(model, Quantize("int8"), data)
    return {
        "float32": export.onnx(model, folder / "float.onnx", labels=LABELS, description="Ten classes."),
        "int8": export.onnx(small, folder / "int8.onnx"),
    }


@pytest.mark.parametrize(("precision", "most"), [("float32", 1e-6), ("int8", 0.02)])
def test_it_answers_in_a_process_that_knows_onnx_runtime_only(model, data, files, tmp_path, precision, most):
    np.save(tmp_path / "x.npy", data[0])
    arguments = [str(files[precision]), str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    subprocess.run([sys.executable, "-c", CLIENT, *arguments], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model(data[0]), atol=most)


@pytest.mark.parametrize(("precision", "most"), [("float32", 1e-6), ("int8", 0.02)])
def test_the_predictor_takes_batches_of_any_size_and_many_threads(model, data, files, precision, most):
    with export.load(files[precision], threads=2) as predictor:
        assert (predictor.format, predictor.threads) == ("onnx", 2)
        assert (predictor.input_shape, predictor.output_shape) == ((28, 28, 1), (10,))
        for batch_size in (1, 10, 256):
            found = predictor.predict(data[0], batch_size=batch_size)
            assert found.dtype == "float32"
            np.testing.assert_allclose(found, model(data[0]), atol=most)
    assert measure.latency(files[precision], runs=20).threads == 1


def test_a_model_in_mixed_precision_is_written_in_float32(tmp_path):
    layers = [keras.layers.Dense(8, dtype="mixed_float16"), keras.layers.Dense(3, activation="softmax")]
    mixed = keras.Sequential([keras.Input((4,)), *layers])
    full = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(3, activation="softmax")])
    full.set_weights(mixed.get_weights())
    rows = np.random.default_rng(0).random((16, 4), "float32")
    found = export.load(export.onnx(mixed, tmp_path / "mixed.onnx")).predict(rows)
    np.testing.assert_allclose(found, full(rows), atol=1e-6)


def test_int8_stores_bytes_and_labels_lie_inside(files):
    assert measure.file_size(files["int8"]).raw < 0.3 * measure.file_size(files["float32"]).raw
    kinds = {tensor.data_type for tensor in onnx.load(files["int8"]).graph.initializer if len(tensor.dims) > 1}
    assert onnx.TensorProto.INT8 in kinds and onnx.TensorProto.FLOAT not in kinds
    assert onnx.load(files["float32"]).doc_string == "Ten classes."
    assert export.load(files["float32"]).labels == LABELS
    assert export.load(files["int8"]).labels is None


def test_damage_is_found(files, tmp_path):
    content = files["float32"].read_bytes()
    path = tmp_path / "damaged.onnx"
    for damaged in (content[:-10], content[: len(content) // 2], b"", b"nonsense"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged.onnx is damaged"):
            export.load(path)
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(ValueError, match="damaged.onnx is damaged: its SHA-256"):
        export.load(path)


def test_what_onnx_cannot_hold_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match="name of an ONNX file must end in .onnx"):
        export.onnx(model, tmp_path / "model.tflite")
    with pytest.raises(ValueError, match="ONNX files can be float32, int8, not dynamic; use masslib.export.tflite"):
        export.onnx(Compressed(model, (), precision="dynamic"), tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="there are no calibration rows"):
        export.onnx(Compressed(model, (), precision="int8"), tmp_path / "model.onnx")
    with pytest.raises(TypeError, match="expected a Keras model, got str"):
        export.onnx("model", tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
