"""Files of models with several inputs and outputs take and answer what the model does."""

import dataclasses
import importlib.util
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from masslib import Compressed, export, measure
from masslib.export import _tflite

pytestmark = pytest.mark.slow

L = keras.layers
KINDS = {"tflite": "m.tflite", "saved_model": "m", "onnx": "m.onnx", "openvino": "m.xml"}
EVERY = [
    "tflite",
    "saved_model",
    *(
        pytest.param(
            kind, marks=pytest.mark.skipif(not importlib.util.find_spec(module), reason=f"needs the extra {kind}")
        )
        for kind, module in (("onnx", "onnxruntime"), ("openvino", "openvino"))
    ),
]
OPEN = ["tflite", "saved_model"]


def written(model, kind, folder, **options):
    return getattr(export, kind)(model, folder / KINDS[kind], **options)


def compared(found, expected, atol=1e-5):
    """Equal structures, types and values."""
    keras.tree.assert_same_structure(found, expected)
    for ours, theirs in zip(keras.tree.flatten(found), keras.tree.flatten(expected), strict=True):
        assert isinstance(ours, np.ndarray) and ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, atol=atol)


@pytest.fixture(scope="module")
def recommender():
    """Numbers of users, prices and flags to a score and a nested pair, of which one is a whole number."""
    user = keras.Input((3,), dtype="int32", name="user")
    price = keras.Input((2,), name="price")
    member = keras.Input((1,), dtype="bool", name="member")
    x = L.Concatenate()([L.Flatten()(L.Embedding(50, 4)(user)), price, keras.ops.cast(member, "float32")])
    best = keras.ops.max(user, axis=-1)
    outputs = {"score": L.Dense(1)(x), "more": (L.Dense(2, name="pair")(x), best)}
    return keras.Model({"user": user, "price": price, "member": member}, outputs)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return {
        "user": rng.integers(0, 50, (9, 3)).astype("int32"),
        "price": rng.random((9, 2), "float32"),
        "member": rng.random((9, 1)) > 0.5,
    }


@pytest.mark.parametrize("kind", EVERY)
def test_dicts_go_in_and_come_out_whatever_the_batch(kind, recommender, rows, tmp_path):
    expected = recommender.predict(rows, verbose=0)
    with export.load(written(recommender, kind, tmp_path)) as predictor:
        assert predictor.dtype == {"user": "int32", "price": "float32", "member": "bool"}
        assert predictor.input_shape == {"user": (3,), "price": (2,), "member": (1,)}
        assert predictor.output_shape == {"score": (1,), "more": ((2,), ())}
        assert set(predictor.outputs) > {"score", "pair"} and len(predictor.outputs) == 3
        for batch_size in (1, 4, 256):
            compared(predictor.predict(rows, batch_size=batch_size), expected)
        compared(predictor.predict({**rows, "day": np.zeros(9)}), expected)  # as in Keras
        nothing = predictor.predict({name: array[:0] for name, array in rows.items()})
        assert nothing["more"][0].shape == (0, 2) and nothing["more"][1].dtype == "int32"


@pytest.mark.parametrize("kind", EVERY)
def test_lists_and_tuples_stay_what_they_are_and_names_do_as_well(kind, tmp_path):
    left, right = keras.Input((4,), name="zebra"), keras.Input((4,), name="ape")
    tower = L.Dense(3, name="tower")
    model = keras.Model([left, right], (tower(left), tower(right), right))
    x = np.random.default_rng(0).random((2, 5, 4), "float32")
    expected = model.predict(list(x), verbose=0)
    assert isinstance(expected, tuple)
    with export.load(written(model, kind, tmp_path)) as predictor:
        assert list(predictor.inputs) == ["zebra", "ape"]
        for given in (list(x), tuple(x), {"ape": x[1], "zebra": x[0]}):
            compared(predictor.predict(given), expected)


@pytest.mark.parametrize("kind", EVERY)
def test_one_array_in_a_structure_comes_back_in_it(kind, tmp_path):
    image = keras.Input((4,), name="image")
    x = np.random.default_rng(0).random((3, 4), "float32")
    model = keras.Model({"image": image}, {"image": L.Dense(2)(image)})
    with export.load(written(model, kind, tmp_path)) as predictor:
        for given in (x, {"image": x}):
            compared(predictor.predict(given), {"image": np.asarray(model({"image": x})["image"])})
    (tmp_path / "list").mkdir()
    model = keras.Model([image], L.Dense(2)(image))
    with export.load(written(model, kind, tmp_path / "list")) as predictor:
        for given in (x, [x], {"image": x}):
            compared(predictor.predict(given), np.asarray(model([x])))


class Towers(keras.Model):
    """Its inputs are known only when it is called."""

    def __init__(self):
        super().__init__(name="towers")
        self.table, self.dense = L.Embedding(40, 4), L.Dense(4)

    def call(self, inputs, training=False):
        word, image = self.table(inputs["word"]), self.dense(inputs["image"])
        return {"score": keras.ops.sum(word * image, axis=-1), "parts": [word, image]}


@pytest.mark.parametrize("kind", EVERY)
def test_models_of_own_classes_are_written_with_rows(kind, tmp_path):
    rng, model = np.random.default_rng(0), Towers()
    x = {"word": rng.integers(0, 40, 6).astype("int64"), "image": rng.random((6, 3))}
    expected = model.predict(x, verbose=0)
    with pytest.raises(ValueError, match="model 'towers' does not tell its inputs; pass example_inputs"):
        written(model, kind, tmp_path)
    with export.load(written(model, kind, tmp_path, example_inputs=x)) as predictor:
        assert predictor.dtype == {"word": "int64", "image": "float32"}
        compared(predictor.predict(x), expected)


@pytest.mark.parametrize("kind", EVERY)
def test_several_open_sizes_are_answered_one_after_the_other(kind, tmp_path):
    words, other = keras.Input((None,), dtype="int32", name="words"), keras.Input((None, 3), name="other")
    pooled = [L.GlobalAveragePooling1D()(L.Embedding(30, 4)(words)), L.GlobalMaxPooling1D()(other)]
    model = keras.Model([words, other], {"pooled": L.Concatenate()(pooled), "all": other * 2})
    rng = np.random.default_rng(0)
    with export.load(written(model, kind, tmp_path)) as predictor:
        assert predictor.input_shape == [(None,), (None, 3)]
        for rows, length, width in ((1, 4, 7), (3, 9, 2), (3, 4, 7)):
            x = [rng.integers(0, 30, (rows, length)).astype("int32"), rng.random((rows, width, 3), "float32")]
            compared(predictor.predict(x), model.predict(x, verbose=0))


def test_strings_go_through_a_saved_model(tmp_path):
    text, size = keras.Input((), dtype="string", name="text"), keras.Input((2,), name="size")
    number = L.StringLookup(vocabulary=["ape", "bee"])(text)
    word = L.StringLookup(vocabulary=["ape", "bee"], invert=True)(number)
    model = keras.Model([text, size], {"number": number, "word": word, "size": size * 2})
    x = [np.array(["bee", "ape", "cat"], object), np.ones((3, 2), "float32")]
    with pytest.raises(ValueError, match="takes string; expected numbers"):
        export.saved_model(model, tmp_path / "m")
    with export.load(export.saved_model(model, tmp_path / "m", example_inputs=x)) as predictor:
        assert predictor.dtype == [np.dtype(object), np.dtype("float32")]
        for batch_size in (1, 256):
            found = predictor.predict(x, batch_size=batch_size)
            assert found["number"].tolist() == [2, 1, 0] and found["word"].tolist() == [b"bee", b"ape", b"[UNK]"]
        with pytest.raises(TypeError, match="input 'text': expected an array of strings, got dtype int64"):
            predictor.predict([np.arange(3), x[1]])


def test_what_does_not_fit_is_told_by_name(recommender, rows, tmp_path):
    predictor = export.load(export.tflite(recommender, tmp_path / "m.tflite"))
    expected = "expected a dict with the keys 'user', 'price', 'member', got "
    for wrong, told in (
        (rows["user"], "an array of shape"),
        ([1], "a list of 1"),
        ({"user": 1}, "a dict with the keys 'u"),
    ):
        with pytest.raises(ValueError, match=expected + told):
            predictor.predict(wrong)
    for change, told in (
        ({"price": rows["price"][:, :1]}, r"expected an array of shape \(n, 2\) as input 'price', got \(9, 1\)"),
        ({"price": rows["price"][:4]}, "different numbers of rows: {'user': 9, 'price': 4, 'member': 9}"),
        ({"price": np.full((9, 2), np.nan)}, "input 'price': the input holds NaN"),
        ({"user": np.full((9, 3), 0.5)}, "input 'user': the input holds 0.5, which the int32"),
        ({"user": np.full((9, 3), 99)}, "cannot answer inputs of shape {'user': .* out of bounds|."),
    ):
        with pytest.raises(ValueError, match=told):
            predictor.predict(rows | change)
    compared(predictor.predict(rows), recommender.predict(rows, verbose=0))


@pytest.mark.parametrize(
    "precision", ["int8", *(pytest.param(it, marks=pytest.mark.exhaustive) for it in ("dynamic", "float16"))]
)
def test_quantized_files_are_calibrated_on_every_input(precision, recommender, rows, tmp_path):
    outputs = {"score": recommender.output["score"], "pair": recommender.output["more"][0]}
    model = keras.Model(recommender.input, outputs)
    small = Compressed(model, (), precision=precision, calibration=rows if precision == "int8" else None)
    path = export.tflite(small, tmp_path / "m.tflite")
    found, expected = export.load(path).predict(rows), model.predict(rows, verbose=0)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=0.02 * np.abs(expected[name]).max())
    table = export.inspect(path)
    assert set(table.inputs) == {"user", "price", "member"} and set(table.outputs) == {"score", "pair"}
    compared(small.predict(rows), found, atol=1e-6)
    if precision == "int8":
        with pytest.raises(ValueError, match=r"calibration rows do not fit model .*: expected a dict with the keys"):
            export.tflite(dataclasses.replace(small, calibration=rows["price"]), tmp_path / "m.tflite")
        small.save(tmp_path / "small")
        compared(Compressed.load(tmp_path / "small").predict(rows), found, atol=1e-6)


@pytest.mark.skipif(not importlib.util.find_spec("onnxruntime"), reason="needs the extra onnx")
@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_int8_of_other_formats_is_calibrated_on_every_input(kind, tmp_path):
    if not importlib.util.find_spec(kind):
        pytest.skip(f"needs the extra {kind}")
    left, right = keras.Input((4,), name="left"), keras.Input((6,), name="right")
    model = keras.Model([left, right], [L.Dense(3)(left), L.Dense(2)(right)])
    x = [np.random.default_rng(0).random((40, size), "float32") for size in (4, 6)]
    with export.load(written(Compressed(model, (), precision="int8", calibration=x), kind, tmp_path)) as predictor:
        for found, expected in zip(predictor.predict(x), model.predict(x, verbose=0), strict=True):
            np.testing.assert_allclose(found, expected, atol=0.05)


def test_the_output_that_is_wrong_is_named(recommender, tmp_path, monkeypatch):
    convert = _tflite._convert

    def lossy(endpoints, *args):
        (right,) = endpoints

        def call(x):
            answer = right.call(x)
            pair, best = answer["more"]
            return {**answer, "more": (pair * [[1.0, 1.01]], best)}

        return convert([dataclasses.replace(right, call=call)], *args)

    monkeypatch.setattr(_tflite, "_convert", lossy)
    with pytest.raises(ValueError, match="disagrees with model .* in output 'pair': largest relative difference 0.0"):
        export.tflite(recommender, tmp_path / "m.tflite")


def test_other_programs_find_the_names(recommender, rows, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    path = export.tflite(recommender, tmp_path / "m.tflite", description="Scores.")
    run = Interpreter(model_path=str(path)).get_signature_runner("serving_default")
    expected = recommender.predict(rows, verbose=0)
    np.testing.assert_allclose(run(**rows)["score"], expected["score"], atol=1e-5)
    loaded = tf.saved_model.load(str(export.saved_model(recommender, tmp_path / "m")))
    answer = loaded.signatures["serving_default"](**{name: tf.constant(array) for name, array in rows.items()})
    np.testing.assert_allclose(answer["pair"], expected["more"][0], atol=1e-5)
    told = json.loads((tmp_path / "m" / "assets.extra" / "masslib.json").read_text())["signatures"]["serving_default"]
    assert told["inputs"] == {"dict": {"user": "user", "price": "price", "member": "member"}}
    with pytest.raises(ValueError, match="labels name the values of one output, but there are 3"):
        export.tflite(recommender, tmp_path / "n.tflite", labels=["a", "b"])
    assert measure.sparsity(path).shape[0] == 3
