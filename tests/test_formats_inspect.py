"""`inspect` tells what lies in a file, whoever wrote it."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from masslib import Quantize, compress, export, models


@pytest.fixture(scope="module")
def model():
    model = models.lenet5((28, 28, 1), 10)
    kernel, bias = model.get_layer("dense1").get_weights()
    kernel[: len(kernel) // 4] = 0
    model.get_layer("dense1").set_weights([kernel, bias])
    return model


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).random((64, 28, 28, 1), "float32"), np.arange(64) % 10


@pytest.mark.parametrize(
    ("precision", "weights", "activations"),
    [
        ("float16", "float16", "float32"),
        ("dynamic", "int8", "float32"),
        ("int8", "int8", "int8"),
        ("int16x8", "int8", "int16"),
    ],
)
def test_operators_precision_bytes_and_zeros_by_layer(model, data, tmp_path, precision, weights, activations):
    path = export.tflite(compress(model, Quantize(precision), data), tmp_path / "model.tflite")
    found = export.inspect(path)
    dense = found.table[found.table.index.str.startswith("dense1")]
    assert dense["op"].tolist() == ["FULLY_CONNECTED"]
    assert dense[["weights", "activations", "values"]].iloc[0].tolist() == [weights, activations, 400_000]
    assert dense["output"].iloc[0] == (None, 500)
    assert 0.25 <= dense["zeros"].iloc[0] < 0.28  # small weights may be rounded to zero
    size = np.dtype(weights).itemsize
    assert size * 400_000 <= dense["bytes"].iloc[0] < size * 400_000 + 8 * 500
    assert found.file_bytes == path.stat().st_size > found.table["bytes"].sum()
    assert list(found.inputs.values()) == ["(None, 28, 28, 1) float32"]
    assert list(found.outputs.values()) == ["(None, 10) float32"]


@pytest.mark.slow
def test_sparse_weights_count_as_they_were(model, tmp_path):
    plain = export.inspect(export.tflite(model, tmp_path / "plain.tflite")).table
    sparse = export.inspect(export.tflite(model, tmp_path / "sparse.tflite", sparse=True)).table
    pruned = [table[table.index.str.startswith("dense1")].iloc[0] for table in (plain, sparse)]
    assert pruned[0]["values"] == pruned[1]["values"] == 400_000
    assert [row["zeros"] for row in pruned] == pytest.approx([0.25, 0.25], abs=1e-4)


def test_it_reads_what_others_wrote_and_needs_no_tensorflow(model, tmp_path):
    path = tmp_path / "foreign.tflite"
    call = tf.function(lambda x: model(x, training=False)).get_concrete_function(tf.TensorSpec((1, 28, 28, 1)))
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([call]).convert())
    code = "import sys, masslib; print(masslib.export.inspect(sys.argv[1])); assert 'tensorflow' not in sys.modules"
    printed = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True).stdout
    first, *rows = printed.splitlines()
    assert "(1, 28, 28, 1) float32" in first
    assert [row.split()[1] for row in rows[2:]].count("CONV_2D") == 2


def test_what_is_no_tflite_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.tflite does not exist; export a model there first"):
        export.inspect(tmp_path / "nothing.tflite")
    (tmp_path / "text.tflite").write_text("this is not a model")
    with pytest.raises(ValueError, match="text.tflite is not a TFLite file: .* 'TFL3' at byte 4"):
        export.inspect(tmp_path / "text.tflite")
