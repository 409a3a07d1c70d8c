"""`measure.sparsity` counts what really lies in a file."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from masslib import Quantize, compress, export, measure


@pytest.fixture(scope="module")
def model():
    """A convolution with a half of zeros and 3 values, and a dense kernel of 5 values per column."""
    image = keras.Input((8, 8, 4))
    x = layers.Conv2D(6, 3, name="conv")(image)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    model = keras.Model(image, layers.Dense(3, name="dense")(layers.Flatten()(x)))
    rng = np.random.default_rng(0)
    model.get_layer("conv").kernel.assign(rng.permutation(np.resize([0, 0, -1, 0.5], 216)).reshape(3, 3, 4, 6))
    dense = rng.choice([-2, -1, 1, 2, 3], (96, 3)) * np.array([1, 10, 100])
    model.get_layer("dense").kernel.assign(dense)
    return model


def _rows(path):
    table = measure.sparsity(path)
    table = table[table["shape"].map(len) > 1]
    return {name: table[table.index.str.contains(name)].iloc[0] for name in ("conv_|conv/", "depthwise", "dense")}


def test_zeros_and_values_of_a_float_file(model, tmp_path):
    conv, depthwise, dense = _rows(export.tflite(model, tmp_path / "model.tflite")).values()
    assert conv.to_dict() == {
        "shape": (6, 3, 3, 4),
        "dtype": "float32",
        "zeros": 0.5,
        "distinct": 3,
        "distinct_per_channel": 3,
        "bytes": 864,
    }
    assert (depthwise["shape"], depthwise["distinct"], depthwise["distinct_per_channel"]) == ((1, 3, 3, 6), 54, 9)
    assert (dense["shape"], dense["zeros"], dense["distinct"]) == ((3, 96), 0, 15)
    assert dense["distinct_per_channel"] == 5


@pytest.mark.parametrize(("precision", "dtype"), [("dynamic", "int8"), ("int8", "int8"), ("float16", "float16")])
def test_zeros_and_values_of_a_quantized_file(model, tmp_path, precision, dtype):
    x = np.random.default_rng(1).random((32, 8, 8, 4), "float32")
    small = compress(model, Quantize(precision), (x, np.arange(32)))
    path = export.tflite(small, tmp_path / "small.tflite")
    table = measure.sparsity(path)
    conv = table[table["shape"] == (6, 3, 3, 4)].iloc[0]
    if precision != "dynamic":  # which leaves small kernels as they are
        assert (conv["dtype"], conv["bytes"]) == (dtype, 216 * np.dtype(dtype).itemsize)
    assert (conv["zeros"], conv["distinct_per_channel"]) == (0.5, 3)


def test_zero_points_are_zeros():
    from types import SimpleNamespace

    from masslib.formats.tflite import summary

    quantization = SimpleNamespace(scale=[1, 1], zeroPoint=[3, -1], quantizedDimension=0)
    tensor = SimpleNamespace(name=b"w;fused", shape=[2, 4], quantization=quantization, sparsity=None)
    data = np.array([3, 3, 0, 1, 3, -1, 0, 1], "int8").view("uint8")
    assert summary(tensor, "int8", data) == ((2, 4), "int8", 3 / 8, 4, 4, 8)


def test_it_reads_without_tensorflow(model, tmp_path):
    path = export.tflite(model, tmp_path / "model.tflite")
    code = """
import sys
for name in ("tensorflow", "keras", "tf_keras"):
    sys.modules[name] = None
import masslib
print(len(masslib.measure.sparsity(sys.argv[1])))
"""
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(result.stdout) == len(measure.sparsity(path)) >= 3


def test_other_files_are_refused(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist; export a model there first"):
        measure.sparsity(tmp_path / "none.tflite")
    path = tmp_path / "note.tflite"
    path.write_text("this is not a model")
    for wrong in (path, tmp_path):
        with pytest.raises(ValueError, match="is not a TFLite file: it does not carry the identifier"):
            measure.sparsity(wrong)
    export.tflite(model, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="note.tflite is damaged: its SHA-256 is"):
        measure.sparsity(path)


@pytest.mark.parametrize(
    ("precision", "step"), [("float32", 0), ("float16", 2**-11), ("dynamic", 1 / 127), ("int8", 1 / 127)]
)
def test_the_weights_of_a_file_are_those_of_the_model(model, tmp_path, precision, step):
    x = np.random.default_rng(1).random((32, 8, 8, 4), "float32")
    small = model if precision == "float32" else compress(model, Quantize(precision), (x, np.arange(32)))
    path = export.tflite(small, tmp_path / "small.tflite")
    found = measure.weights(path)
    assert list(found) == list(measure.sparsity(path).index)
    for name in ("conv", "dense"):
        expected = np.moveaxis(model.get_layer(name).get_weights()[0], -1, 0)
        (kernel,) = (values for values in found.values() if values.shape == expected.shape)
        # Half a step of the output channel, to which the scale belongs; of the kernel where it has one scale.
        assert (np.abs(kernel - expected) <= 0.51 * step * np.abs(expected).max()).all()
        assert kernel.dtype == np.float32


def test_weights_in_the_sparse_encoding_are_refused(tmp_path):
    model = keras.Sequential([keras.Input((64,)), layers.Dense(64)])
    model.layers[0].kernel.assign(np.eye(64))
    path = export.tflite(model, tmp_path / "sparse.tflite", sparse=True)
    with pytest.raises(ValueError, match="in the sparse encoding; export it without sparse=True"):
        measure.weights(path)
