"""Several functions in one file: encode and decode, a generator's prefill and step."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from masslib import Compressed, evaluate, export, measure
from masslib._util import manifest
from masslib.export import _tflite

pytestmark = pytest.mark.slow

L = keras.layers
WRITERS = {"tflite": export.tflite, "saved_model": export.saved_model}
FILES = {"tflite": "m.tflite", "saved_model": "m"}
WIDTH, WORDS = 8, 20


def written(models, kind, folder, **options):
    return WRITERS[kind](models, folder / FILES[kind], **options)


@pytest.fixture(scope="module")
def autoencoder():
    """Two models that share a layer of 40,000 weights."""
    shared = L.Dense(400, activation="relu", name="shared")
    image, code = keras.Input((100,), name="image"), keras.Input((2,), name="code")
    wide = L.Dense(100, name="wide")
    return {
        "encode": keras.Model(image, L.Dense(2, name="narrow")(shared(image)), name="encoder"),
        "decode": keras.Model({"code": code}, [shared(wide(code)), wide(code)], name="decoder"),
    }


@pytest.mark.parametrize("kind", WRITERS)
def test_each_signature_is_a_predictor(kind, autoencoder, tmp_path):
    image = np.random.default_rng(0).random((7, 100), "float32")
    predictor = export.load(written(autoencoder, kind, tmp_path))
    assert list(predictor.signatures) == ["encode", "decode"] and predictor.signature == "encode"
    code = predictor.predict(image)
    np.testing.assert_allclose(code, autoencoder["encode"](image), atol=1e-5)
    decode = predictor.signatures["decode"]
    assert (decode.input_shape, decode.output_shape) == ({"code": (2,)}, [(400,), (100,)])
    for batch_size in (2, 256):
        found = decode.predict({"code": code}, batch_size=batch_size)
        for ours, theirs in zip(found, autoencoder["decode"]({"code": code}), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(predictor.predict(image), code)
    assert measure.latency(decode, runs=2, warmup=0).runs == 2
    assert evaluate(predictor, (image, code), task="regression").mae < 1e-6
    predictor.close()
    with pytest.raises(ValueError, match="was closed"):
        decode.predict({"code": code})


def test_weights_that_are_shared_are_stored_and_counted_once(autoencoder, tmp_path):
    path = export.tflite(autoencoder, tmp_path / "m.tflite")
    alone = export.tflite(autoencoder["encode"], tmp_path / "alone.tflite")
    assert path.stat().st_size < alone.stat().st_size * 1.1
    kernels = sorted(array.size for array in measure.weights(path).values() if array.ndim == 2)
    assert kernels == [200, 800, 40_000]
    assert measure.flops(path) == measure.flops(alone) == 2 * (40_000 + 800)
    assert measure.flops(path, signature="decode") == 2 * (40_000 + 200)
    with pytest.raises(ValueError, match="has no signature 'paint'; it has encode, decode"):
        measure.flops(path, signature="paint")
    seen = export.inspect(path)
    assert list(seen.signatures) == ["encode", "decode"] and set(seen.inputs) == {"image"}
    assert set(seen.table["signature"]) == {"encode", "decode"}


@pytest.mark.parametrize("precision", ["int8", "dynamic"])
def test_signatures_are_quantized_together(precision, autoencoder, tmp_path):
    rng = np.random.default_rng(0)
    rows = {"encode": rng.random((30, 100), "float32"), "decode": {"code": rng.random((30, 2), "float32")}}
    small = {
        name: Compressed(model, (), precision=precision, calibration=rows[name]) for name, model in autoencoder.items()
    }
    with export.load(export.tflite(small, tmp_path / "m.tflite")) as predictor:
        for name, model in autoencoder.items():
            found = keras.tree.flatten(predictor.signatures[name].predict(rows[name]))
            for ours, theirs in zip(found, keras.tree.flatten(model(rows[name])), strict=True):
                np.testing.assert_allclose(ours, theirs, atol=0.05 * np.abs(theirs).max())
    with pytest.raises(ValueError, match="the signatures have the precisions .*a file has one precision"):
        export.tflite({**small, "decode": autoencoder["decode"]}, tmp_path / "m.tflite")


class Generator(tf.Module):
    """A recurrent generator of words, with its state outside: a sequence at once, then word by word."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.table = tf.Variable(rng.normal(size=(WORDS, WIDTH)).astype("float32"))
        self.mix = tf.Variable(rng.normal(size=(WIDTH, WIDTH)).astype("float32") / 4)

    def _next(self, state, words):
        state = tf.tanh(state @ self.mix + tf.gather(self.table, words))
        return state, state @ tf.transpose(self.table)

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.int32, "words")])
    def prefill(self, words):
        state = tf.zeros((tf.shape(words)[0], WIDTH))
        for number in range(4):
            state, scores = self._next(state, words[:, number])
        return {"state": state, "scores": scores}

    @tf.function(
        input_signature=[
            {
                "state": tf.TensorSpec((None, WIDTH)),
                "word": tf.TensorSpec((None,), tf.int32),
                "position": tf.TensorSpec((), tf.int32),
            }
        ]
    )
    def step(self, given):
        state, scores = self._next(given["state"], given["word"])
        return {"state": state, "scores": scores, "position": given["position"] + 1}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_generator_is_prefilled_and_goes_on_word_by_word(kind, tmp_path):
    generator = Generator()
    words = np.random.default_rng(1).integers(0, WORDS, (3, 8)).astype("int32")
    expected = tf.zeros((3, WIDTH))
    for number in range(8):
        expected, scores = generator._next(expected, words[:, number])
    path = written({"prefill": generator.prefill, "step": generator.step}, kind, tmp_path)
    with export.load(path) as predictor:
        step = predictor.signatures["step"]
        assert predictor.by_rows and not step.by_rows
        found = {**predictor.predict(words[:, :4]), "position": np.int32(4)}
        for number in range(4, 8):
            found = step.predict({**found, "word": words[:, number]})
        assert found["position"] == 8
        np.testing.assert_allclose(found["scores"], scores, atol=1e-5)
        assert measure.latency(step, runs=2, warmup=0, example_inputs={**found, "word": words[:, 0]}).runs == 2


def test_the_signature_that_is_wrong_is_named(autoencoder, tmp_path, monkeypatch):
    convert = _tflite._convert

    def lossy(endpoints, *args):
        encode, decode = endpoints
        wrong = dataclasses.replace(decode, call=lambda x: [part * 1.01 for part in decode.call(x)])
        return convert([encode, wrong], *args)

    monkeypatch.setattr(_tflite, "_convert", lossy)
    with pytest.raises(ValueError, match=r"model 'decoder' in output 'shared' of signature 'decode': largest .* 0.0"):
        export.tflite(autoencoder, tmp_path / "m.tflite")


def test_what_cannot_be_several_signatures_is_refused(autoencoder, tmp_path):
    for write, path in ((export.onnx, "m.onnx"), (export.openvino, "m.xml")):
        with pytest.raises(TypeError, match="holds one model, got a dict of 2; write a file for each, or use"):
            write(autoencoder, tmp_path / path)
    for models, error, told in (
        ({}, TypeError, "expected a dict of at least one name to a model"),
        ({"my model": autoencoder["encode"]}, ValueError, "use the letters a-z"),
        ({"f": tf.function(lambda x: x)}, ValueError, "function 'f' has no input_signature"),
    ):
        with pytest.raises(error, match=told):
            export.tflite(models, tmp_path / "m.tflite")
    with pytest.raises(ValueError, match="example_inputs as a dict by signature, of encode, decode; got ndarray"):
        export.tflite(autoencoder, tmp_path / "m.tflite", example_inputs=np.zeros((2, 100)))
    assert list(tmp_path.iterdir()) == []


def test_structures_of_strangers_are_checked(autoencoder, tmp_path):
    path = export.saved_model(autoencoder, tmp_path / "m")
    told = path / "assets.extra" / "masslib.json"
    for signatures, words in (
        ({"paint": {"inputs": "a", "outputs": "b"}}, "has no signature 'paint'"),
        ({"encode": {"inputs": "other", "outputs": "output_0"}}, "is damaged: it tells of other, and has image"),
        ({"encode": {"inputs": {"set": ["image"]}, "outputs": "output_0"}}, "is no structure of names"),
        ([1], "tells of its signatures otherwise than masslib does"),
    ):
        copy = shutil.copytree(path, tmp_path / "copy", dirs_exist_ok=True)
        (copy / "assets.extra" / "masslib.json").unlink()
        manifest.write(copy, "assets.extra/masslib.json", signatures=signatures)
        with pytest.raises(ValueError, match=words):
            export.load(copy)
    assert json.loads(told.read_text())["signatures"]["encode"] == {"inputs": "image", "outputs": "output_0"}
