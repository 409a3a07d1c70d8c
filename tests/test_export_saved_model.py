"""A SavedModel answers to programs that know TensorFlow only, photos in files included."""

import io
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from masslib import export, models

LABELS = [f"class {number}" for number in range(10)]

# Not even Keras may be imported.
CLIENT = """
import json, sys
sys.modules["masslib"] = sys.modules["keras"] = sys.modules["tf_keras"] = None
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
files = tf.constant([tf.io.read_file(path).numpy() for path in sys.argv[2:]])
answer = model.signatures["classify"](images=files)
labels = [[label.decode() for label in row] for row in answer["labels"].numpy()]
print(json.dumps({"labels": labels, "probabilities": answer["probabilities"].numpy().tolist()}))
"""


@pytest.fixture(scope="module")
def model():
    return models.lenet5((28, 28, 1), 10)


@pytest.fixture(scope="module")
def photos():
    return np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)


@pytest.mark.slow
def test_photos_in_files_get_labels_from_a_program_with_tensorflow_only(model, photos, tmp_path):
    path = export.saved_model(model, tmp_path / "model", version=3, labels=LABELS)
    assert path == tmp_path / "model" / "3"
    assert (path / "assets" / "labels.txt").read_text().splitlines() == LABELS
    files = []
    for number, photo in enumerate(photos):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(photo).save(files[-1])
    command = [sys.executable, "-c", CLIENT, str(path), *map(str, files)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    answer = json.loads(printed.splitlines()[-1])
    expected = np.asarray(model(photos[..., None].astype("float32") / 255))
    order = np.argsort(-expected, axis=1)
    assert answer["labels"] == [[LABELS[index] for index in row] for row in order]
    np.testing.assert_allclose(answer["probabilities"], np.take_along_axis(expected, order, axis=1), atol=1e-6)


def test_photos_of_other_kinds_and_sizes_are_fitted(model, photos, tmp_path):
    import tensorflow as tf

    path = export.saved_model(model, tmp_path / "model", labels=LABELS)
    classify = tf.saved_model.load(str(path)).signatures["classify"]
    contents = []
    for mode, size, kind in (("RGB", (56, 56), "PNG"), ("RGBA", (28, 28), "PNG"), ("L", (100, 40), "JPEG")):
        stream = io.BytesIO()
        Image.fromarray(photos[0]).convert(mode).resize(size).save(stream, kind)
        contents.append(stream.getvalue())
    answer = classify(images=tf.constant(contents))
    assert answer["labels"].shape == answer["probabilities"].shape == (3, 10)
    np.testing.assert_allclose(answer["probabilities"].numpy().sum(axis=1), 1, atol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="(?i)image"):
        classify(images=tf.constant([b"no image"]))


def test_labels_without_images_go_to_the_assets_alone(tmp_path):
    import tensorflow as tf

    path = export.saved_model(models.mlp((16,), 3), tmp_path / "table", labels=["a", "b", "c"])
    assert list(tf.saved_model.load(str(path)).signatures) == ["serving_default"]
    with export.load(path) as predictor:
        assert predictor.labels == ["a", "b", "c"]


def test_the_newest_version_is_loaded(model, photos, tmp_path):
    other = models.lenet5((28, 28, 1), 10, seed=1)
    for version, network in {9: other, 10: model}.items():
        export.saved_model(network, tmp_path / "model", version=version)
    x = photos[..., None].astype("float32") / 255
    with export.load(tmp_path / "model") as predictor:
        assert predictor.path.name == "10"
        np.testing.assert_allclose(predictor.predict(x), model(x), atol=1e-6)
    with pytest.raises(ValueError, match="version=-1: expected a whole number of at least 0"):
        export.saved_model(model, tmp_path / "model", version=-1)


def test_a_folder_with_missing_variables_is_refused(model, tmp_path):
    path = export.saved_model(model, tmp_path / "model")
    (path / "assets.extra" / "masslib.json").unlink()  # as in a folder that another program wrote
    (data,) = (path / "variables").glob("*.data-*")
    whole = data.read_bytes()
    for content in (whole[: len(whole) // 2], b""):
        data.write_bytes(content)
        with pytest.raises(ValueError, match="model is not a whole SavedModel: "):
            export.load(path)
    data.unlink()
    with pytest.raises(ValueError, match="model is not a whole SavedModel: "):
        export.load(path)
    (path / "saved_model.pb").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="model is not a whole SavedModel: "):
        export.load(path)


@pytest.mark.parametrize("channels", [1, 3])
def test_photos_are_read_as_in_training(channels, tmp_path):
    import tensorflow as tf

    from masslib._util.photos import Decoder
    from masslib.export import photos

    rng = np.random.default_rng(0)
    image = Image.fromarray(np.kron(rng.integers(0, 256, (3, 5, 4)), np.ones((8, 8, 1))).astype("uint8"), "RGBA")
    for orientation, endian in itertools.product(range(10), "<>"):
        exif = Image.Exif()
        exif.endian = endian
        exif[0x010F], exif[0x0112] = "maker", orientation
        image.convert("RGB").save(tmp_path / f"{orientation}{ord(endian)}.jpg", exif=exif.tobytes(), quality=95)
        if endian == "<":
            image.save(tmp_path / f"{orientation}.png", exif=exif)
    for mode in ("1", "L", "LA", "P"):
        image.convert(mode).save(tmp_path / f"{mode}.png")
    image.convert("P").save(tmp_path / "palette.png", transparency=3)
    image.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    Image.fromarray(np.asarray(image)[..., 0].astype("uint16") * 257).save(tmp_path / "sixteen.png")
    shape = (16, 20, channels)
    decode = tf.function(lambda content: photos.decode(content, shape), input_signature=[tf.TensorSpec((), tf.string)])
    trained = Decoder(shape[:2], channels, "stretch", 10**6)
    for path in sorted(tmp_path.iterdir()):
        np.testing.assert_allclose(decode(path.read_bytes()), trained(path), atol=2, err_msg=path.name)


@pytest.mark.parametrize("loss", ["SparseCategoricalCrossentropy", "BinaryCrossentropy", None])
def test_logits_are_not_called_probabilities(loss, tmp_path):
    import keras
    import tensorflow as tf

    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    model.layers[-1].set_weights([np.zeros((16, 3)), np.array([3.0, -2.0, 1.0])])
    if loss:
        model.compile(loss=getattr(keras.losses, loss)(from_logits=True))
    path = export.saved_model(model, tmp_path / "m", labels=["a", "b", "c"], scale=1)
    answer = tf.saved_model.load(str(path)).signatures["classify"](images=tf.constant([png(np.zeros((4, 4)))]))
    link = {"S": tf.nn.softmax, "B": tf.sigmoid, "N": tf.identity}[str(loss)[0]]
    name = "probabilities" if loss else "logits"
    assert set(answer) == {"labels", name}
    np.testing.assert_allclose(answer[name][0], np.sort(link(tf.constant([3.0, -2.0, 1.0])))[::-1], rtol=1e-5)


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels.astype("uint8")).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def words():
    import keras

    return keras.layers.TextVectorization(output_sequence_length=5, vocabulary=["free", "call", "me", "later"])


@pytest.fixture(scope="module")
def reader():
    import keras

    layers = [keras.Input((5,), dtype="int32"), keras.layers.Embedding(6, 4), keras.layers.Flatten()]
    return keras.Sequential([*layers, keras.layers.Dense(2, activation="softmax")])


def test_classify_takes_texts_where_there_is_a_vectorizer(words, reader, tmp_path):
    import tensorflow as tf

    path = export.saved_model(reader, tmp_path / "texts", labels=["ham", "spam"], vectorizer=words)
    texts = ["Call me, later!", "FREE call", "", "what is this that has more words than fit"]
    answer = tf.saved_model.load(str(path)).signatures["classify"](texts=tf.constant(texts))
    expected = np.asarray(reader(np.asarray(words(texts))))
    np.testing.assert_allclose(answer["probabilities"], -np.sort(-expected, axis=1), atol=1e-6)
    first = [labels[0].decode() for labels in answer["labels"].numpy()]
    assert first == [["ham", "spam"][index] for index in expected.argmax(axis=1)]


def test_a_vectorizer_that_does_not_fit_is_refused(words, reader, tmp_path):
    import keras

    def made(**options):
        return keras.layers.TextVectorization(**{"output_sequence_length": 5, "vocabulary": ["a", "b"], **options})

    for wrong, error, message in (
        ("words", TypeError, "expected a keras.layers.TextVectorization"),
        (made(output_sequence_length=6), ValueError, r"makes \(6,\) of a text, but model .* takes \(5,\)"),
        (made(vocabulary=None), ValueError, "no vocabulary"),
        (made(output_mode="multi_hot", output_sequence_length=None), ValueError, "expected 'int'"),
    ):
        with pytest.raises(error, match=message):
            export.saved_model(reader, tmp_path / "wrong", labels=["ham", "spam"], vectorizer=wrong)
    with pytest.raises(ValueError, match="pass labels, too"):
        export.saved_model(reader, tmp_path / "wrong", vectorizer=words)
    assert not (tmp_path / "wrong").exists()
