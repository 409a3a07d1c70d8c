"""Pairs that would fail obscurely or answer nonsense are refused before they are tried."""

import warnings

import keras
import numpy as np
import pytest
import tf_keras

import masslib
from masslib import Compressed, Prune, bridge, compress, export, measure, models
from masslib.compression.tfmot.toolkit import tfmot


@pytest.fixture(scope="module")
def model():
    model = models.mlp((16,), 3, hidden=(64,))
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    return model


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).random((96, 16), "float32"), np.arange(96) % 3


def test_models_still_wrapped_for_training_are_refused(model, tmp_path):
    twin = bridge.to_tf_keras(model)
    pruning = tfmot().sparsity.keras.prune_low_magnitude(tf_keras.models.clone_model(twin))
    clustering = tfmot().clustering.keras.cluster_weights(
        tf_keras.models.clone_model(twin),
        number_of_clusters=4,
        cluster_centroids_init=tfmot().clustering.keras.CentroidInitialization.LINEAR,
    )
    annotated = tfmot().quantization.keras.quantize_annotate_model(tf_keras.models.clone_model(twin))
    for wrapped, words in {
        pruning: r"dense1' is still wrapped by TFMOT \(PruneLowMagnitude\).*call tfmot's strip_pruning",
        clustering: r"dense1' is still wrapped by TFMOT \(ClusterWeights\).*call tfmot's strip_clustering",
        annotated: "is annotated for quantization only",
    }.items():
        with pytest.raises(ValueError, match=words):
            export.tflite(wrapped, tmp_path / "wrapped.tflite")
    assert list(tmp_path.iterdir()) == []


def test_models_that_keras_quantized_are_refused(tmp_path):
    model = models.mlp((16,), 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it cannot quantize the input layer
        model.quantize("int8")
    nested = keras.Sequential([keras.Input((16,)), model])
    for quantized in (model, nested):
        with pytest.raises(ValueError, match=r"'dense1' was quantized by Keras .*export the model as it was before"):
            export.tflite(quantized, tmp_path / "quantized.tflite")


@pytest.mark.slow
def test_a_quantization_aware_model_of_tfmot_becomes_int8(model, tmp_path):
    aware = tfmot().quantization.keras.quantize_model(bridge.to_tf_keras(model))
    aware.compile("sgd", "mse")
    x = np.random.default_rng(0).random((64, 16), "float32")
    aware.fit(x, np.eye(3)[np.arange(64) % 3], verbose=0, epochs=3)
    table = measure.sparsity(export.tflite(aware, tmp_path / "aware.tflite"))
    assert set(table["dtype"]) == {"int8", "int32"}


@pytest.mark.slow
def test_the_sparse_encoding_is_exact_and_small_for_float_only(model, data, tmp_path):
    small = compress(model, Prune(0.8, min_share=0, max_steps=9), data, batch_size=32, verbose=False)
    plain = export.tflite(small, tmp_path / "plain.tflite")
    sparse = export.tflite(small, tmp_path / "sparse.tflite", sparse=True)
    assert sparse.stat().st_size < 0.7 * plain.stat().st_size
    np.testing.assert_array_equal(export.load(sparse).predict(data[0]), export.load(plain).predict(data[0]))
    counted = [measure.sparsity(path)["zeros"].filter(like="MatMul") for path in (plain, sparse)]
    assert sorted(counted[0]) == pytest.approx(sorted(counted[1]), abs=1e-6)
    assert counted[1].iloc[0] == pytest.approx(0.8, abs=0.01)
    for precision in ("dynamic", "float16", "int8", "int16x8"):
        with pytest.raises(ValueError, match=f"sparse=True works for float32 files only.* is to be {precision}"):
            export.tflite(Compressed(model, (), precision=precision), tmp_path / "x.tflite", sparse=True)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (None, "there are no calibration rows"),
        (np.zeros((0, 16)), "there are no calibration rows"),
        (np.zeros((5, 4)), r"rows have shape \(5, 4\); the model takes \(n, \*\(16,\)\)"),
        (np.zeros(16), r"rows have shape \(16,\)"),
        (np.full((5, 16), np.nan), "80 values of the calibration rows are NaN or infinite"),
        (np.full((5, 16), "a"), "have dtype <U1; expected numbers"),
    ],
)
def test_calibration_rows_that_tell_nothing_are_refused(model, tmp_path, rows, words):
    small = Compressed(model, (), precision="int8", calibration=rows)
    with pytest.raises((ValueError, TypeError), match=words):
        export.tflite(small, tmp_path / "int8.tflite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "words"),
    [(np.full((5, 16), 0.5), r"are constant \(0.5\)"), (255.0 * np.eye(16), "range from 0 to 255, .*unnormalised")],
)
def test_odd_calibration_ranges_are_told(model, tmp_path, rows, words):
    small = Compressed(model, (), precision="int8", calibration=rows.astype("float32"))
    with pytest.warns(UserWarning, match=f"the calibration rows {words}") as caught:
        export.tflite(small, tmp_path / "int8.tflite")
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compressed = compress(model, masslib.Quantize("int8"), (np.random.default_rng(0).random((9, 16)), np.arange(9)))
        export.tflite(compressed, tmp_path / "int8.tflite")
