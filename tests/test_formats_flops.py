"""Operations and weights, counted in the file, against the formulas."""

import keras
import numpy as np
import pytest
from keras import layers

import masslib
from masslib import Compressed, export, measure


@pytest.mark.slow
def test_operations_are_those_of_the_formulas(tmp_path):
    image = keras.Input((9, 9, 3))
    x = layers.Conv2D(4, 3, padding="same", strides=3)(image)  # (3, 3, 4)
    x = layers.BatchNormalization()(x)
    x = layers.DepthwiseConv2D(2, depth_multiplier=2)(x)  # (2, 2, 8)
    x = layers.Conv2DTranspose(5, 2, strides=2)(x)  # (4, 4, 5)
    x = layers.Dense(6)(x)
    model = keras.Model(image, layers.Dense(7)(layers.Flatten()(x)))
    multiply_adds = [9 * 4 * 9 * 3, 4 * 8 * 4, 4 * 8 * 4 * 5, 16 * 5 * 6, 96 * 7]
    for precision in ("float32", "dynamic"):
        path = export.tflite(Compressed(model, (), precision=precision), tmp_path / f"{precision}.tflite")
        assert measure.flops(path) == 2 * sum(multiply_adds), precision


def test_weights_that_are_zero_do_not_count(tmp_path):
    model = masslib.models.mlp((4,), 3, hidden=(5,))
    kernel = np.ones((4, 5))
    kernel[:2] = 0
    model.get_layer("dense1").set_weights([kernel, np.ones(5)])
    path = export.tflite(model, tmp_path / "mlp.tflite")
    assert measure.nonzero(path) == 10 + 5 + 15
    assert measure.flops(path) == 2 * (20 + 15)


def test_open_shapes_need_rows(tmp_path):
    model = keras.Sequential([keras.Input((None, 4)), layers.Dense(2)])
    path = export.tflite(model, tmp_path / "open.tflite")
    with pytest.raises(ValueError, match="takes examples of open shape"):
        measure.flops(path)
    for length in (3, 30):
        assert measure.flops(path, example_inputs=np.zeros((2, length, 4))) == 2 * length * 4 * 2
        assert measure.latency(path, runs=2, warmup=0, example_inputs=np.zeros((2, length, 4))).runs == 2
    with pytest.raises(ValueError, match="or example_inputs, rows of your data"):
        measure.latency(path)
