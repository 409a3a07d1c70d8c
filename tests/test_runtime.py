import sys

import numpy as np
import pytest

from masslib import Quantize, compress, export, models, runtime


@pytest.fixture(scope="module")
def model():
    return models.lenet5((28, 28, 1), 10)


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("formats")
    model.save(folder / "model.keras")
    return {
        "keras": folder / "model.keras",
        "saved_model": export.saved_model(model, folder / "saved_model"),
        "tflite": export.tflite(model, folder / "model.tflite"),
    }


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((10, 28, 28, 1), "float32")


@pytest.mark.parametrize("kind", ["keras", "saved_model", "tflite"])
def test_every_format_answers_as_the_model_whatever_the_batch(kind, model, files, images):
    with runtime.load(files[kind]) as predictor:
        assert predictor.format == kind
        assert (predictor.input_shape, predictor.output_shape) == ((28, 28, 1), (10,))
        assert predictor.threads == (1 if kind == "tflite" else None)
        expected = np.asarray(model(images))
        for batch_size in (1, 4, 256):
            found = predictor.predict(images, batch_size=batch_size)
            assert found.dtype == "float32"
            np.testing.assert_allclose(found, expected, atol=1e-6)
        assert predictor.predict(images[:0]).shape == (0, 10)
    with pytest.raises(ValueError, match="was closed; load it again"):
        predictor.predict(images)


def test_odd_but_valid_arrays_are_read_rightly(files, images):
    predictor = runtime.load(files["tflite"], threads=2)
    expected = predictor.predict(images)
    frozen = images.copy()
    frozen.flags.writeable = False
    strided = np.repeat(images, 2, axis=0)[::2]
    for variant in (frozen, strided, images.astype("float64"), images.tolist(), np.asfortranarray(images)):
        np.testing.assert_array_equal(predictor.predict(variant), expected)


@pytest.mark.parametrize("value", [3e38, -3e38, 1e20, 1e-45])
def test_finite_numbers_pass_whatever_their_sums_and_squares(tmp_path, value):
    predictor = runtime.load(export.tflite(models.mlp((4,), 3), tmp_path / "mlp.tflite"), threads=2)
    assert predictor.threads == 2
    assert predictor.predict(np.full((2, 4), value, "float32")).shape == (2, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [[1.0, 2.0, 3.0], [3e38, 3e38, 3e38], [np.inf, -np.inf, 1]], ids=str)
@pytest.mark.parametrize("place", [0, 3])
def test_one_bad_number_anywhere_is_found(files, row, bad, place):
    x = np.zeros((300, 28, 28, 1), "float32")
    x[-1, -1, -4:, 0] = np.insert(row, place, bad)
    with pytest.raises(ValueError, match="NaN or infinity; clean it"):
        runtime.load(files["tflite"]).predict(x)


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (
            np.zeros((28, 28, 1)),
            ValueError,
            r"shape \(n, 28, 28, 1\), got \(28, 28, 1\); add a batch.*x\[None\]",
        ),
        (np.zeros((2, 28, 28)), ValueError, r"got \(2, 28, 28\)"),
        (np.float32(1), ValueError, r"got \(\)"),
        (np.zeros((2, 28, 27, 1)), ValueError, r"got \(2, 28, 27, 1\)"),
        (np.full((1, 28, 28, 1), np.nan), ValueError, "NaN or infinity; clean it"),
        (np.full((1, 28, 28, 1), "a"), TypeError, "array of numbers, got dtype <U1"),
    ],
)
def test_impossible_inputs_are_refused(files, x, error, words):
    with pytest.raises(error, match=words):
        runtime.load(files["tflite"]).predict(x)


def test_missing_and_foreign_files_are_refused(files, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.tflite does not exist; export a model there first"):
        runtime.load(tmp_path / "nothing.tflite")
    (tmp_path / "model.h5").touch()
    with pytest.raises(ValueError, match="model.h5: expected a .tflite, .packed, .ensemble or .keras file"):
        runtime.load(tmp_path / "model.h5")
    (tmp_path / "text.tflite").write_text("this is not a model")
    with pytest.raises(ValueError, match="text.tflite is not a TFLite file: .* 'TFL3' at byte 4"):
        runtime.load(tmp_path / "text.tflite")
    with pytest.raises(ValueError, match="threads=0: expected a whole number of at least 1"):
        runtime.load(files["tflite"], threads=0)


@pytest.mark.parametrize(
    ("name", "module", "words"),
    [
        ("m.onnx", "onnxruntime", r"m.onnx needs onnxruntime, which comes with: pip install 'masslib\[onnx\]'"),
        ("m.xml", "openvino", r"m.xml needs openvino, which comes with: pip install 'masslib\[openvino\]'"),
    ],
)
def test_a_runtime_that_is_not_installed_is_named(model, tmp_path, monkeypatch, name, module, words):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(ModuleNotFoundError, match=words):
        runtime.load(tmp_path / name)
    write = export.onnx if name == "m.onnx" else export.openvino
    with pytest.raises(
        ModuleNotFoundError, match=r"masslib.export.(onnx|openvino) needs .*: pip install 'masslib\[\1\]'"
    ):
        write(model, tmp_path / f"new-{name}")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_damage_is_found_before_the_runtime_sees_it(files, tmp_path):
    content = files["tflite"].read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 4
    (tmp_path / "flipped.tflite").write_bytes(flipped)
    with pytest.raises(ValueError, match="flipped.tflite is damaged: its SHA-256"):
        runtime.load(tmp_path / "flipped.tflite")
    (tmp_path / "short.tflite").write_bytes(content[: len(content) // 3])
    with pytest.raises(ValueError, match="short.tflite is damaged"):
        runtime.load(tmp_path / "short.tflite")


def test_a_fixed_batch_is_padded(model, images, tmp_path):
    import tensorflow as tf

    call = tf.function(lambda x: model(x, training=False)).get_concrete_function(
        tf.TensorSpec((4, 28, 28, 1), tf.float32)
    )
    path = tmp_path / "batch4.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([call]).convert())
    found = runtime.load(path).predict(images)  # ten rows: two full batches and one of two
    np.testing.assert_allclose(found, model(images), atol=1e-6)


def test_integer_inputs_and_outputs_are_scaled(model, images, tmp_path):
    import tensorflow as tf

    model.export(str(tmp_path / "model"), verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "model"))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row[None]] for row in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    (tmp_path / "pure_int8.tflite").write_bytes(converter.convert())
    ours = export.tflite(
        compress(model, Quantize("int8"), (images, np.zeros(len(images), int))), tmp_path / "ours.tflite"
    )
    pure = runtime.load(tmp_path / "pure_int8.tflite").predict(images)
    assert pure.dtype == "float32"
    np.testing.assert_allclose(pure, runtime.load(ours).predict(images), atol=2 / 256)
