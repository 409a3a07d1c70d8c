"""Models in mixed precision cross the bridge, are compressed and exported as what their float32 weights are."""

import keras
import numpy as np
import pandas as pd
import pytest

from masslib import Cluster, Prune, PruneChannels, Quantize, QuantizeAware, bridge, compress, diagnose, export

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.random((64, 8, 8, 2), "float32"), RNG.integers(0, 3, 64)


def _model(policy):
    """A network with a nested model, a layer inside of a layer and an operation."""
    keras.utils.set_random_seed(0)
    layers, dtype = keras.layers, keras.DTypePolicy(policy)
    inside = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(8, 3, dtype=dtype, name="conv"),
            layers.BatchNormalization(dtype=dtype, name="norm"),
            layers.ReLU(dtype=dtype, name="relu"),
        ],
        name="inside",
    )
    inputs = keras.Input((8, 8, 2), name="input")
    rows = layers.TimeDistributed(layers.Dense(5, dtype=dtype, name="dense"), dtype=dtype, name="rows")(inside(inputs))
    x = layers.Flatten(dtype=dtype, name="flatten")(rows * 0.5)
    x = layers.Dense(16, activation="relu", dtype=dtype, name="wide")(x)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", dtype="float32", name="out")(x), name="mixed")
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture(scope="module", params=["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.exhaustive)])
def pair(request):
    """The model in mixed precision, and the same in float32."""
    mixed, full = _model(request.param), _model("float32")
    full.set_weights(mixed.get_weights())
    return mixed, full


def test_it_crosses_as_the_float32_model_does(pair):
    mixed, full = pair
    twin = bridge.to_tf_keras(mixed)
    np.testing.assert_array_equal(twin.predict(IMAGES, verbose=0), bridge.to_tf_keras(full).predict(IMAGES, verbose=0))
    pd.testing.assert_frame_equal(*(diagnose(model).reset_index(drop=True) for model in pair))
    assert np.abs(twin.predict(IMAGES, verbose=0) - mixed.predict(IMAGES, verbose=0)).max() > 0  # it does round


def test_it_comes_back_in_its_own_precision(pair):
    mixed, _ = pair
    back = bridge.from_tf_keras(bridge.to_tf_keras(mixed), like=mixed)
    assert back.get_layer("wide").dtype_policy == mixed.get_layer("wide").dtype_policy
    np.testing.assert_array_equal(back.predict(IMAGES, verbose=0), mixed.predict(IMAGES, verbose=0))


@pytest.mark.slow
@pytest.mark.parametrize(
    "steps",
    [
        [PruneChannels(0.5, epochs=1), Prune(0.5, epochs=1), Cluster(8, min_share=0, epochs=1), Quantize("dynamic")],
        pytest.param([QuantizeAware(epochs=1)], marks=pytest.mark.exhaustive),
    ],
    ids=["rebuilt and trained by TFMOT", "trained for quantization"],
)
def test_every_step_gives_what_it_gives_in_float32(pair, steps, tmp_path):
    mixed, full = pair
    answers = []
    for number, model in enumerate((mixed, full)):
        small = compress(model, steps, (IMAGES, LABELS), batch_size=32, verbose=False)
        path = export.tflite(small, tmp_path / f"{number}.tflite")
        answers.append(export.load(path).predict(IMAGES))
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-6)


@pytest.mark.slow
def test_a_global_policy_a_missing_input_and_losses_that_are_scaled(tmp_path):
    """What `set_dtype_policy` makes of a model: layers inside of layers, half an input, a LossScaleOptimizer."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        keras.utils.set_random_seed(0)
        inside = keras.Sequential([keras.layers.Conv2D(8, 3), keras.layers.ReLU()], name="inside")
        model = keras.Sequential([inside, keras.layers.Flatten(), keras.layers.Dense(3, "softmax", dtype="float32")])
        model.compile("adam", "sparse_categorical_crossentropy")
        model.build((None, 8, 8, 2))
        assert type(model.optimizer).__name__ == "LossScaleOptimizer" and model.inputs[0].dtype == "float16"
        small = compress(model, [PruneChannels(0.5, epochs=1), Prune(0.5, epochs=1)], (IMAGES, LABELS), verbose=False)
        answers = export.load(export.tflite(small, tmp_path / "a.tflite")).predict(IMAGES)
    finally:
        keras.config.set_dtype_policy(before)

    layers = [*small.model.layers, *small.model.get_layer("inside").layers]
    computing = [layer for layer in layers if hasattr(layer, "kernel")]
    assert len(computing) == 2 and {layer.compute_dtype for layer in computing} == {"float32"}
    assert small.model.inputs[0].dtype == "float32"
    np.testing.assert_allclose(answers, small.model.predict(IMAGES, verbose=0), atol=1e-6)


def test_a_layer_that_cannot_be_copied_is_listed():
    inputs = keras.Input((4,))
    x = keras.layers.Lambda(lambda it: it, name="own")(keras.layers.Dense(4, dtype="mixed_float16")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, dtype="float32")(x))
    with pytest.raises(ValueError, match="1 layer.* have no tf_keras counterpart:\n  own: Lambda"):
        bridge.to_tf_keras(model)


def test_its_file_holds_the_float32_weights(pair, tmp_path):
    mixed, full = pair
    path = export.tflite(mixed, tmp_path / "mixed.tflite")
    np.testing.assert_allclose(export.load(path).predict(IMAGES), full.predict(IMAGES, verbose=0), atol=1e-6)
