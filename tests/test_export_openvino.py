"""OpenVINO IR answers as the model, in OpenVINO alone, too."""

import subprocess
import sys

import numpy as np
import pytest
import tf_keras

from masslib import Compressed, Quantize, compress, export, measure, models

pytest.importorskip("openvino", reason="needs the extra `openvino`")

LABELS = [f"class {number}" for number in range(10)]

CLIENT = """
import sys
for name in ("masslib", "tensorflow", "keras", "tf_keras"):
    sys.modules[name] = None
import numpy as np, openvino
model = openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
np.save(sys.argv[3], model(np.load(sys.argv[2]))[0])
"""


@pytest.fixture(scope="module")
def model():
    return models.lenet5((28, 28, 1), 10)


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).random((64, 28, 28, 1), "float32"), np.arange(64) % 10


@pytest.fixture(scope="module")
def files(model, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("openvino")
    half = compress(model, Quantize("float16"))
    return {
        "float32": export.openvino(model, folder / "float.xml", labels=LABELS, description="Ten classes."),
        "float16": export.openvino(half, folder / "half.xml"),
        "bfloat16": export.openvino(model, folder / "bfloat.xml", compute="bfloat16"),
    }


def test_it_answers_in_a_process_that_knows_openvino_only(model, data, files, tmp_path):
    np.save(tmp_path / "x.npy", data[0])
    arguments = [str(files["float32"]), str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    subprocess.run([sys.executable, "-c", CLIENT, *arguments], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model(data[0]), atol=1e-6)


@pytest.mark.parametrize(("kind", "most"), [("float32", 1e-6), ("float16", 1e-3), ("bfloat16", 0.01)])
def test_the_predictor_takes_batches_of_any_size(model, data, files, kind, most):
    with export.load(files[kind], threads=2) as predictor:
        assert (predictor.format, predictor.threads) == ("openvino", 2)
        assert (predictor.input_shape, predictor.output_shape) == ((28, 28, 1), (10,))
        for batch_size in (1, 10, 7, 256, 3, 1):  # more sizes than programs are kept
            found = predictor.predict(data[0], batch_size=batch_size)
            assert found.dtype == "float32"
            np.testing.assert_allclose(found, model(data[0]), atol=most)


def test_int8_goes_through_onnx(model, data, files, tmp_path):
    for package in ("onnx", "onnxruntime", "tf2onnx"):
        pytest.importorskip(package, reason="int8 for OpenVINO needs the extra `onnx`")
    path = export.openvino(compress(model, Quantize("int8"), data), tmp_path / "int8.xml")
    np.testing.assert_allclose(export.load(path).predict(data[0]), model(data[0]), atol=0.02)
    assert measure.file_size(path).raw < 0.35 * measure.file_size(files["float32"]).raw


def test_the_size_is_that_of_both_files_and_labels_lie_inside(files):
    whole = files["float32"]
    assert measure.file_size(whole).raw == whole.stat().st_size + whole.with_suffix(".bin").stat().st_size > 1_700_000
    assert measure.file_size(files["float16"]).raw < 0.52 * measure.file_size(whole).raw
    assert sorted(path.suffix for path in whole.parent.iterdir()) == [".bin"] * 3 + [".xml"] * 3
    assert export.load(whole).labels == LABELS
    assert export.load(files["float16"]).labels is None


def test_damage_is_found_in_both_files(files, tmp_path):
    graph, weights = tmp_path / "copy.xml", tmp_path / "copy.bin"
    whole = {path: files["float32"].with_suffix(path.suffix).read_bytes() for path in (graph, weights)}
    for path, words in {graph: "copy.xml is damaged", weights: "copy.bin is damaged or not the one of"}.items():
        for kind in ("flipped", "cut", "empty"):
            for name, content in whole.items():
                name.write_bytes(content)
            content = bytearray(whole[path])
            content[len(content) // 2] ^= 1
            path.write_bytes({"flipped": content, "cut": content[: len(content) // 3], "empty": b""}[kind])
            with pytest.raises(ValueError, match=words):
                export.load(graph)
    weights.unlink()
    with pytest.raises(ValueError, match="copy.bin, which holds the weights of .*copy.xml, is missing"):
        export.load(graph)


def test_what_openvino_cannot_hold_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match="whose weights lie beside it in a .bin, must end in .xml"):
        export.openvino(model, tmp_path / "model.bin")
    with pytest.raises(ValueError, match="compute='int8': expected 'float32' or 'bfloat16'"):
        export.openvino(model, tmp_path / "model.xml", compute="int8")
    with pytest.raises(ValueError, match="OpenVINO files can be float32, float16, int8, not dynamic"):
        export.openvino(Compressed(model, (), precision="dynamic"), tmp_path / "model.xml")
    legacy = tf_keras.Sequential([tf_keras.layers.Dense(3, input_shape=(4,))])
    with pytest.raises(ValueError, match="is a tf_keras model, .*, which OpenVINO cannot hold; write"):
        export.openvino(legacy, tmp_path / "model.xml")
    assert list(tmp_path.iterdir()) == []
