"""Files of models that are not images of one size: words, open sizes, augmentation, recurrent layers, odd names."""

import dataclasses
import warnings

import keras
import numpy as np
import pytest

from masslib import Compressed, Quantize, export
from masslib.export import _tflite

L = keras.layers
WRITERS = {"tflite": (export.tflite, "m.tflite"), "saved_model": (export.saved_model, "m")}


def _written(model, kind, folder, **options):
    write, name = WRITERS[kind]
    return write(model, folder / name, **options)


@pytest.mark.parametrize("kind", WRITERS)
def test_open_sizes_are_answered_one_after_the_other(kind, tmp_path):
    inputs = keras.Input((None, None, 1))
    x = L.Conv2D(2, 3, padding="same")(inputs)
    halved = L.MaxPooling2D(16)(x)
    model = keras.Model(inputs, L.Concatenate()([x, L.UpSampling2D(16)(halved)]))
    rng = np.random.default_rng(0)
    with export.load(_written(model, kind, tmp_path)) as predictor:
        assert predictor.input_shape == (None, None, 1)
        for rows, height, width in ((1, 16, 32), (3, 48, 16), (3, 16, 32), (1, 16, 16)):
            x = rng.random((rows, height, width, 1), "float32")
            np.testing.assert_allclose(predictor.predict(x), model(x), atol=1e-6)
        with pytest.raises(ValueError, match=r"cannot answer inputs of shape \(2, 20, 20, 1\): "):
            predictor.predict(rng.random((2, 20, 20, 1), "float32"))
        np.testing.assert_allclose(predictor.predict(x), model(x), atol=1e-6)


def _words(dtype, words=50):
    return keras.Sequential([keras.Input((6,), dtype=dtype), L.Embedding(words, 3), L.Flatten(), L.Dense(2)])


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_a_converter_that_loses_words_is_found(dtype, tmp_path, monkeypatch):
    model, convert = _words(dtype), _tflite._convert

    def lossy(endpoints, *args):
        (endpoint,) = endpoints
        network = endpoint.model
        broken = keras.models.clone_model(network)
        broken.set_weights(network.get_weights())
        table = network.layers[0].get_weights()[0]
        table[1::2] = 0
        broken.layers[0].set_weights([table])
        return convert([dataclasses.replace(endpoint, model=broken, call=broken)], *args)

    export.tflite(model, tmp_path / "right.tflite")
    monkeypatch.setattr(_tflite, "_convert", lossy)
    with pytest.raises(ValueError, match="the float32 file disagrees with model"):
        export.tflite(model, tmp_path / "wrong.tflite")
    assert [path.name for path in tmp_path.iterdir()] == ["right.tflite"]


@pytest.mark.parametrize("kind", WRITERS)
def test_whole_numbers_stay_what_they_are(kind, tmp_path):
    inputs = keras.Input((2,), dtype="int32")
    model = keras.Model(inputs, inputs % 256)
    ids = np.array([[2**24 + 1, 2**31 - 1], [0, 2**30 + 77]])
    with export.load(_written(model, kind, tmp_path)) as predictor:
        assert predictor.dtype == "int32"
        np.testing.assert_array_equal(predictor.predict(ids), ids % 256)
        np.testing.assert_array_equal(predictor.predict(ids[:, ::-1].astype("float64")), ids[:, ::-1] % 256)
        for wrong, told in ((0.5, r"0\.5"), (2.0**31, "2147483648"), (np.nan, "NaN")):
            with pytest.raises(ValueError, match=told):
                predictor.predict(np.full((1, 2), wrong))
        with pytest.raises(ValueError, match="holds 2147483648, which the int32 that the model takes cannot hold"):
            predictor.predict(np.full((1, 2), 2**31))


def test_floats_take_whole_numbers_that_they_can_hold(tmp_path):
    model = keras.Sequential([keras.Input((1,)), L.Rescaling(2.0)])
    with export.load(_written(model, "saved_model", tmp_path)) as predictor:
        assert predictor.predict([[2**24]])[0, 0] == 2**25
        with pytest.raises(ValueError, match="holds 16777217, which the float32 that the model takes cannot hold"):
            predictor.predict([[2**24 + 1]])


@pytest.mark.parametrize("kind", WRITERS)
def test_random_layers_are_off_in_a_file(kind, tmp_path):
    augmentation = keras.Sequential([L.RandomFlip(seed=1), L.RandomContrast(0.9, seed=1), L.GaussianNoise(1.0)])
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, augmentation(inputs))
    x = np.random.default_rng(0).random((4, 8, 8, 1), "float32")
    with export.load(_written(model, kind, tmp_path)) as predictor:
        np.testing.assert_array_equal(predictor.predict(x), x)


@pytest.mark.slow
def test_recurrent_layers_take_a_fixed_batch(tmp_path):
    model = keras.Sequential([keras.Input((3, 2)), L.SimpleRNN(2, name="memory"), L.Dense(1)], name="reader")
    told = r"write model 'reader': TensorListReserve \(layer 'memory'\) requires .*; pass batch_size=1, with which it"
    with pytest.raises(ValueError, match=told) as caught:
        export.tflite(model, tmp_path / "open.tflite")
    assert len(str(caught.value)) < 400
    with pytest.warns(UserWarning, match="'reader' becomes a file of one row at a time"):
        path = export.tflite(model, tmp_path / "auto.tflite", batch_size="auto")
    x = np.random.default_rng(0).random((5, 3, 2), "float32")
    with export.load(path) as predictor:
        assert predictor.batch == 1
        np.testing.assert_allclose(predictor.predict(x), model(x), atol=1e-6)


@pytest.mark.parametrize("nested", [False, True])
def test_operators_that_tflite_lacks_are_named(nested, tmp_path):
    layer, name = L.Lambda(lambda x: keras.ops.erfinv(x / 2), name="inverse"), "inverse"
    if nested:
        layer, name = keras.Sequential([layer], name="inner"), "inner/inverse"
    with pytest.raises(ValueError, match=rf"no operator for Erfinv \(layer '{name}'\); put other layers"):
        export.tflite(keras.Sequential([keras.Input((4,)), layer]), tmp_path / "m.tflite")


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("name", ["my input", "größe", "a:0", "_x", "self"])
def test_inputs_may_have_any_name(kind, name, tmp_path):
    inputs = keras.Input((4,), name=name)
    model = keras.Model(inputs, L.Dense(2)(inputs))
    x = np.ones((3, 4), "float32")
    with export.load(_written(model, kind, tmp_path)) as predictor:
        np.testing.assert_allclose(predictor.predict(x), model(x), atol=1e-6)


@pytest.mark.parametrize(("layer", "network"), [("my output", "m"), ("größe", "m"), ("out", "my model"), ("out", "_m")])
def test_names_that_no_graph_can_hold_are_told(layer, network, tmp_path):
    model = keras.Sequential([keras.Input((4,)), L.Dense(2, name=layer)], name=network)
    wrong = layer if network == "m" else network
    for kind in WRITERS:
        with pytest.raises(ValueError, match=f"TensorFlow cannot write the names '{wrong}' of model '{network}'"):
            _written(model, kind, tmp_path)


def test_a_model_may_have_an_attribute_precision(tmp_path):
    model = keras.Sequential([keras.Input((4,)), L.Dense(2)])
    model.precision = keras.metrics.Precision()
    assert export.tflite(model, tmp_path / "m.tflite").exists()


def test_rows_of_the_user_check_the_file(tmp_path):
    model = keras.Sequential([keras.Input((2,)), L.Lambda(lambda x: keras.ops.log(x - 1000))], name="late")
    with pytest.raises(ValueError, match="'late' cannot answer random inputs: it answers NaN or infinity; compare"):
        export.saved_model(model, tmp_path / "m")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export.saved_model(model, tmp_path / "m", example_inputs=[[2000, 3000], [0, 0]])
    with pytest.raises(ValueError, match="answers NaN or infinity on all 1 rows"):
        export.saved_model(model, tmp_path / "n", example_inputs=[[0, 0]])
    with pytest.raises(ValueError, match=r"the example_inputs have shape \(1, 3\); the model takes \(n, \*\(2,\)\)"):
        export.saved_model(model, tmp_path / "n", example_inputs=[[0, 0, 0]])


def test_loops_that_would_end_the_process_are_refused_whoever_made_the_result(tmp_path):
    """`compress` refuses the step; a result may also be made by hand."""
    model = keras.Sequential([keras.Input((6, 3)), keras.layers.LSTM(4, name="lstm")])
    rows = np.zeros((8, 6, 3), "float32")
    small = Compressed(model, (Quantize("int8"),), {}, "int8", rows)
    with pytest.raises(ValueError, match=r"cannot calibrate the loops of the recurrent layers lstm; use"):
        export.tflite(small, tmp_path / "model.tflite", batch_size=1)
    assert not any(tmp_path.iterdir())
