"""Weights of four bits, in a file that runs and carries all that other TFLite files carry."""

import importlib.util
import sys

import numpy as np
import pytest

import masslib
from masslib import Prune, Quantize, compress, export, measure, models

needs_extra = pytest.mark.skipif(not importlib.util.find_spec("ai_edge_quantizer"), reason="needs the extra `int4`")


@pytest.fixture(scope="module")
def model(digits):
    model = models.small_cnn(digits.input_shape, digits.num_classes)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    masslib.fit(model, digits.train, batch_size=32, epochs=8, verbose=0)
    return model


@pytest.mark.slow
@needs_extra
def test_kernels_have_four_bits_and_the_file_runs(model, digits, tmp_path):
    steps = [Prune(0.6, max_steps=40, learning_rate=1e-3), Quantize("int4")]
    small = compress(model, steps, digits.train, batch_size=32, verbose=False)
    labels = [str(number) for number in range(10)]
    path = export.tflite(small, tmp_path / "int4.tflite", labels=labels, description="digits in four bits")
    table = measure.sparsity(path)
    kernels = table[table["shape"].map(len) > 1]
    assert len(kernels) == 4
    assert set(kernels["dtype"]) == {"int4"}
    assert kernels["distinct"].max() <= 15
    assert kernels.loc[kernels["bytes"].idxmax(), "zeros"] >= 0.599
    plain = export.tflite(compress(model, Quantize("dynamic")), tmp_path / "dynamic.tflite")
    assert path.stat().st_size < 0.7 * plain.stat().st_size
    predictor = export.load(path)
    assert predictor.labels == labels
    assert export.inspect(path).description == "digits in four bits"
    # The stored numbers are those of the model, to half of the 15th of the largest per channel.
    stored = max((w for w in measure.weights(path).values() if w.ndim == 2), key=np.size)
    kernel = small.model.get_layer("dense1").get_weights()[0].T
    assert (np.abs(stored - kernel) <= np.abs(kernel).max(axis=1, keepdims=True) / 14 + 1e-6).all()
    x, y = digits.test[:]
    expected = np.mean(np.argmax(small.model(x, training=False), 1) == y)
    assert np.mean(predictor.predict(x).argmax(1) == y) > expected - 0.1


@needs_extra
def test_damage_is_seen(model, tmp_path):
    path = export.tflite(compress(model, Quantize("int4")), tmp_path / "int4.tflite")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged: its SHA-256"):
        export.load(path)


def test_without_the_extra_it_is_said_how_to_get_it(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer", None)
    with pytest.raises(ModuleNotFoundError, match=r"int4 needs ai-edge-quantizer, .*: pip install 'masslib\[int4\]'"):
        export.tflite(compress(model, Quantize("int4")), tmp_path / "int4.tflite")
    assert list(tmp_path.iterdir()) == []
