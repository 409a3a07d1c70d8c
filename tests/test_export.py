import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from masslib import Quantize, compress, export, models


@pytest.fixture(scope="module")
def model():
    return models.lenet5((28, 28, 1), 10)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.random((64, 28, 28, 1), "float32"), np.arange(64) % 10


def _dtypes(path):
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    return {np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details() if tensor["dtype"]}


@pytest.mark.parametrize(
    ("precision", "size", "holds"),
    [
        ("dynamic", 0.27, {"int8", "float32"}),
        pytest.param("float16", 0.52, {"float16", "float32"}, marks=pytest.mark.slow),
        ("int8", 0.27, {"int8", "int32", "float32"}),
        pytest.param("int16x8", 0.27, {"int8", "int16", "int64", "float32"}, marks=pytest.mark.slow),
    ],
)
def test_each_precision_stores_the_weights_in_its_type(model, data, tmp_path, precision, size, holds):
    whole = export.tflite(model, tmp_path / "float.tflite").stat().st_size
    path = export.tflite(compress(model, Quantize(precision), data), tmp_path / "small.tflite")
    assert path.stat().st_size < size * whole
    assert holds <= _dtypes(path)
    x = data[0]
    found, expected = export.load(path).predict(x), np.asarray(model(x))
    assert np.abs(found - expected).mean() < 0.02 * expected.max()
    interpreter = Interpreter(model_path=str(path))
    (entry,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert entry["dtype"] == answer["dtype"] == np.float32


def test_the_seal_survives_a_plain_runtime(model, data, tmp_path):
    path = export.tflite(model, tmp_path / "model.tflite")
    interpreter = Interpreter(model_path=str(path))
    runner = interpreter.get_signature_runner("serving_default")
    (name,) = runner.get_input_details()
    (answer,) = runner(**{name: data[0]}).values()
    np.testing.assert_allclose(answer, model(data[0]), atol=1e-6)


@pytest.mark.slow
def test_a_saved_model_needs_neither_masslib_nor_keras(model, data, tmp_path):
    path = export.saved_model(model, tmp_path / "saved")
    np.save(tmp_path / "x.npy", data[0])
    code = """
import sys
sys.modules["masslib"] = None
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
(answer,) = loaded.signatures["serving_default"](tf.constant(np.load(sys.argv[2]))).values()
np.save(sys.argv[3], answer)
"""
    arguments = [str(path), str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model(data[0]), atol=1e-6)


class Forgetful(keras.layers.Layer):
    """Answers one thing while Keras runs it and another thing in a file."""

    def call(self, x):
        return x if tf.executing_eagerly() else x[:, ::-1]


@pytest.mark.parametrize("write", [export.saved_model, export.tflite])
def test_a_file_that_answers_otherwise_is_not_written(write, tmp_path):
    model = keras.Sequential([keras.Input((4,)), Forgetful()])
    with pytest.raises(ValueError, match="float32 file disagrees with model .*largest relative difference"):
        write(model, tmp_path / "wrong.tflite")
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="name of a TFLite file must end in .tflite"):
        export.tflite(model, tmp_path / "model.lite")
    with pytest.raises(TypeError, match="expected a Keras model, got str"):
        export.tflite("model", tmp_path / "model.tflite")
    with pytest.raises(TypeError, match="expected a Keras model, got Compressed; pass `compressed.model`"):
        export.saved_model(compress(model, Quantize("dynamic")), tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_words_go_in_as_integers_and_an_output_may_have_a_name(tmp_path):
    words = keras.Input((6,), dtype="int32")
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(1000, 4)(words))
    answer = keras.layers.Dense(3, activation="softmax")(x)
    rows = np.random.default_rng(0).integers(0, 1000, (40, 6), dtype="int32")
    small = compress(keras.Model(words, answer), Quantize("int8"), (rows, np.arange(40) % 3))
    for name, model in {"int8": small, "named": keras.Model(words, {"answer": answer})}.items():
        found = export.load(export.tflite(model, tmp_path / f"{name}.tflite")).predict(rows)
        found = found["answer"] if name == "named" else found
        np.testing.assert_allclose(found, small.model.predict(rows, verbose=0), atol=0.02)


def test_what_the_converter_refuses_is_a_value_error(tmp_path):
    image = keras.Input((4,))
    model = keras.Model(image, keras.ops.erfinv(image))
    with pytest.raises(ValueError, match="TensorFlow's converter cannot write model '.*': "):
        export.tflite(model, tmp_path / "odd.tflite")
    assert list(tmp_path.iterdir()) == []
