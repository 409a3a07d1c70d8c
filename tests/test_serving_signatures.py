"""Several signatures of one file: packaged together, served each by its name, answered as Keras answers."""

import asyncio
import gc
import json
import re
import sqlite3
import subprocess
import sys
import time
import weakref
from http.client import HTTPConnection

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import masslib
from masslib.compression import Compressed
from masslib.data import from_arrays, split

pytest.importorskip("httptools", reason="the extra serve is not installed")

from masslib.serving import checker
from masslib.serving.registry import Registry
from masslib.serving.settings import Settings

pytestmark = [pytest.mark.alone, pytest.mark.slow]

KINDS, LENGTH, START = 7, 5, 6


def parts():
    """An encoder and a decoder that says what it has read backwards, and both as one network for training."""
    spelling, sounds = layers.Embedding(KINDS, 8), layers.Embedding(KINDS, 8)
    reader = layers.GRU(24, unroll=True)  # unrolled, a file takes any number of rows
    speaker = layers.GRU(24, return_sequences=True, return_state=True, unroll=True)
    scores = layers.Dense(KINDS)
    letters = keras.Input((LENGTH,), dtype="int32", name="letters")
    encode = keras.Model({"letters": letters}, {"state": reader(spelling(letters))})

    def decode(before, state):
        heard, state = speaker(sounds(before), initial_state=state)
        return {"scores": scores(heard), "state": state}

    before, state = keras.Input((LENGTH,), dtype="int32", name="before"), keras.Input((24,), name="state")
    whole = keras.Model(
        {"letters": letters, "before": before}, decode(before, encode({"letters": letters})["state"])["scores"]
    )
    last = keras.Input((1,), dtype="int32", name="before")
    step = keras.Model({"before": last, "state": state}, decode(last, state))
    return {"whole": whole, "encode": encode, "decode": step}


@pytest.fixture(scope="module")
def reversing(tmp_path_factory):
    """The networks, and the folder of their package."""
    keras.utils.set_random_seed(0)
    made = parts()
    letters = np.random.default_rng(0).integers(0, KINDS - 1, (3000, LENGTH), "int32")
    said = letters[:, ::-1]
    before = np.concatenate([np.full((3000, 1), START, "int32"), said[:, :-1]], axis=1)
    splits = split(from_arrays({"letters": letters, "before": before}, said), 0.1, 0.1)
    made["whole"].compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    masslib.fit(made["whole"], splits.train, epochs=3, verbose=0)
    root = tmp_path_factory.mktemp("models")
    masslib.package(made, root / "reversing" / "1", splits, formats=["tflite", "packed"], verbose=False)
    return made, root, letters[:20]


def greedy(ask, letters):
    """Say what the decoder likes best, step by step."""
    state = np.asarray(ask("encode", {"letters": letters})["state"], "float32")
    said = np.full((len(letters), 1), START, "int32")
    for _ in range(LENGTH):
        answer = ask("decode", {"before": said[:, -1:], "state": state})
        state = np.asarray(answer["state"], "float32")
        said = np.concatenate([said, np.asarray(answer["scores"])[:, -1].argmax(-1)[:, None]], axis=1).astype("int32")
    return said[:, 1:]


def posted(server, path, asked, parts=None):
    body = (asked if isinstance(asked, str) else json.dumps(asked)).encode()
    headers = {"content-type": "application/json"}
    if parts is not None:
        headers["inference-header-content-length"] = str(len(body))
        body += b"".join(parts)
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST" if asked else "GET", path, body if asked else None, headers)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response, data


def by_v2(server, signature, arrays):
    """The Open Inference Protocol, tensors in binary both ways."""
    names = {"int32": "INT32", "float32": "FP32"}
    entries = [
        {"name": name, "shape": list(x.shape), "datatype": names[x.dtype.name],
         "parameters": {"binary_data_size": x.nbytes}} for name, x in arrays.items()
    ]  # fmt: skip
    asked = {"inputs": entries, "parameters": {"signature": signature, "binary_data_output": True}}
    response, data = posted(server, "/v2/models/reversing/infer", asked, [x.tobytes() for x in arrays.values()])
    assert response.status == 200, data
    length = int(response.getheader("inference-header-content-length"))
    told, rest, found = json.loads(data[:length]), data[length:], {}
    for entry in told["outputs"]:
        size = entry["parameters"]["binary_data_size"]
        found[entry["name"]], rest = np.frombuffer(rest[:size], "float32").reshape(entry["shape"]), rest[size:]
    return found


@pytest.mark.parametrize("prefer", ["tflite", "packed"])
def test_a_dialogue_over_either_protocol_is_the_one_that_keras_holds(reversing, prefer):
    made, root, letters = reversing
    expected = greedy(lambda name, arrays: made[name].predict_on_batch(arrays), letters)
    assert (expected == letters[:, ::-1]).mean() > 0.9  # it has learned something
    with masslib.serve(root, prefer=(prefer,)) as server:

        def by_rest(name, arrays):
            answer = server.predict(arrays, "reversing", signature=name)
            return answer if name == "decode" else {"state": answer}  # REST names no output that is alone

        np.testing.assert_array_equal(greedy(by_rest, letters), expected)
        np.testing.assert_array_equal(greedy(lambda name, arrays: by_v2(server, name, arrays), letters), expected)


def test_the_default_signature_answers_who_names_none(reversing):
    made, root, letters = reversing
    arrays = {"letters": letters, "before": np.full_like(letters, START)}
    expected = made["whole"].predict_on_batch(arrays)
    with masslib.serve(root) as server:
        for name in (None, "whole", "serving_default", ""):
            np.testing.assert_allclose(server.predict(arrays, "reversing", signature=name), expected, atol=1e-4)
        assert server.status()["models"]["reversing"]["versions"]["1"]["signatures"] == ["whole", "encode", "decode"]


def test_what_is_told_of_signatures(reversing):
    _, root, _ = reversing
    with masslib.serve(root) as server:
        told = json.loads(posted(server, "/v1/models/reversing/metadata", None)[1])
        signatures = told["metadata"]["signature_def"]["signature_def"]
        assert set(signatures) == {"serving_default", "whole", "encode", "decode"}
        assert signatures["serving_default"] == signatures["whole"]
        assert set(signatures["decode"]["inputs"]) == {"before", "state"}
        told = json.loads(posted(server, "/v2/models/reversing", None)[1])["signatures"]["decode"]
        assert {it["name"]: it["shape"] for it in told["inputs"]} == {"before": [-1, 1], "state": [-1, 24]}


def test_a_signature_that_is_not_there_is_refused(reversing):
    _, root, letters = reversing
    with masslib.serve(root) as server:
        for wrong in ("loss", 3, ["encode"], {"a": 1}):
            asked = {"signature_name": wrong, "inputs": {"letters": letters.tolist()}}
            response, data = posted(server, "/v1/models/reversing:predict", asked)
            assert response.status == 400 and "there are whole, encode, decode" in json.loads(data)["error"]
        deep = json.dumps({"signature_name": "@", "inputs": 0}).replace('"@"', "[" * 990 + "]" * 990)
        assert posted(server, "/v1/models/reversing:predict", deep)[0].status == 400
        with pytest.raises(ValueError, match="400: .*input"):
            server.predict({"letters": letters}, "reversing", signature="decode")


def test_only_the_default_signature_is_recorded(reversing, tmp_path):
    """The steps of a dialogue are no answers that people could judge, and their inputs are of another form."""
    _, root, letters = reversing
    with masslib.serve(root, record=str(tmp_path / "kept.sqlite"), record_share=1.0) as server:
        server.predict({"letters": letters}, "reversing", signature="encode")
        server.predict({"letters": letters, "before": letters}, "reversing")
    with sqlite3.connect(tmp_path / "kept.sqlite") as kept:
        assert kept.execute("SELECT count(*) FROM masslib_answers").fetchone() == (len(letters),)


def test_a_version_that_is_let_go_leaves_no_memory(reversing, tmp_path):
    """A worker freezes the collector, so what holds itself would stay for ever."""
    _, root, _ = reversing
    folder = root / "reversing" / "1"
    entry = {"folder": str(folder), **checker.check(folder, ("tflite",))}
    wanted = {"versions": {"1": entry}, "labels": {}, "refused": {}, "canary_share": 0.0}

    async def come_and_go():
        registry = Registry(Settings(str(root)), tmp_path)
        assert await registry.apply({"models": {"reversing": wanted}}) == {}
        versions = registry.models["reversing"].versions[1].signatures
        watched = [weakref.ref(it) for it in versions.values()]
        del versions
        await registry.apply({"models": {}})
        return [it() for it in watched]

    gc.disable()
    try:
        assert asyncio.run(come_and_go()) == [None] * 3
    finally:
        gc.enable()


def test_signatures_that_are_not_by_rows_are_left_out_with_the_reason(tmp_path):
    """Their answers could not be handed out: two clients would get parts of one joint answer."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    spec = {"state": tf.TensorSpec((1, 4), tf.float32, "state"), "place": tf.TensorSpec((), tf.int32, "place")}
    signatures = {
        "whole": model,
        "mean": tf.function(lambda x: tf.reduce_mean(model(x), 0), [tf.TensorSpec((None, 4), tf.float32, "x")]),
        "step": tf.function(lambda state, place: state + tf.cast(place, tf.float32), [*spec.values()]),
        "twice": tf.function(lambda x: model(x) * 2, [tf.TensorSpec((None, 4), tf.float32, "x")]),
    }
    x = np.random.default_rng(0).random((40, 4), "float32")
    splits = split(from_arrays(x, x[:, :3]), 4, 4)
    masslib.package(signatures, tmp_path / "models" / "small" / "1", splits, formats=["tflite"], verbose=False)
    with masslib.serve(tmp_path / "models") as server:
        found = server.predict(x[:3], "small", signature="twice")
        np.testing.assert_allclose(found, 2 * model.predict(x[:3], verbose=0), atol=1e-5)
        told = server.status()["models"]["small"]["versions"]["1"]
        assert told["signatures"] == ["whole", "twice"] and set(told["left_out"]) == {"mean", "step"}
        with pytest.raises(ValueError, match="'mean' is not served: its output .* is not by rows"):
            server.predict(x[:3], "small", signature="mean")
        with pytest.raises(ValueError, match="'step' is not served: the model takes 'place'"):
            server.predict({"state": x[:1], "place": [0]}, "small", signature="step")
    with pytest.raises(TypeError, match="the first signature is a "):
        masslib.package(dict(reversed(signatures.items())), tmp_path / "it", splits, verbose=False)
    with pytest.raises(ValueError, match="'serving_default' is the first one"):
        masslib.package({"whole": model, "serving_default": model}, tmp_path / "it", splits, verbose=False)


def test_a_shadow_answers_along_whatever_its_default_signature_is_called(reversing, tmp_path):
    made, root, letters = reversing
    arrays = {"letters": letters, "before": letters}
    splits = split(from_arrays(arrays, letters), 4, 4)
    for version, model in ((1, made["whole"]), (2, {"both": made["whole"], "encode": made["encode"]})):
        masslib.package(model, tmp_path / "it" / str(version), splits, formats=["tflite"], verbose=False)
    for label, version in (("stable", "1"), ("shadow", "2")):
        command = [sys.executable, "-m", "masslib", "versions", tmp_path, "it", "--set", label, version]
        subprocess.run(command, check=True, capture_output=True)
    with masslib.serve(tmp_path) as server:
        server.predict(arrays, "it")
        end = time.monotonic() + 20
        while "masslib_shadow_total{" not in server.metrics() and time.monotonic() < end:
            time.sleep(0.05)
        counts = re.findall(r"masslib_shadow_total\{.*\} (\S+)", server.metrics())
        assert max(map(float, counts)) == len(letters), counts


def test_a_package_of_several_signatures_says_so(reversing, tmp_path):
    made, root, letters = reversing
    assert "signatures `encode`, `decode`" in (root / "reversing" / "1" / "MODEL_CARD.md").read_text()
    assert masslib.verify(root / "reversing" / "1")["answers"].unique().tolist() == ["as when it was packaged"]
    splits = split(from_arrays({"letters": letters, "before": letters}, letters), 4, 4)
    with pytest.raises(ValueError, match="several signatures; expected"):
        masslib.package(made, tmp_path / "it", splits, formats=["onnx"], verbose=False)
    small = {name: Compressed(part, (), precision="dynamic") for name, part in made.items()}
    folder = masslib.package(small, tmp_path / "it", splits, verbose=False)
    assert sorted(it.name for it in folder.iterdir() if it.suffix == ".tflite") == ["dynamic.tflite"]


def test_padding_that_the_loss_ignores_is_not_judged(reversing, tmp_path):
    """Of five tokens the last three are padding here."""
    made, _, letters = reversing
    whole = made["whole"]
    said = letters[:, ::-1].copy()
    said[:, 2:] = 0
    before = np.concatenate([np.full((len(said), 1), START, "int32"), letters[:, :0:-1]], axis=1)
    splits = split(from_arrays({"letters": letters, "before": before}, said), 4, 12)
    ignoring = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    whole.compile("adam", ignoring)
    folder = masslib.package(whole, tmp_path / "it", splits, formats=["tflite"], verbose=False)
    told = json.loads((folder / "manifest.json").read_text())["models"]["tflite"]["metrics"]["accuracy"]
    x, y = splits.test[:]
    found, kept = whole.predict(x, verbose=0).argmax(-1), y != 0
    assert told == pytest.approx((found == y)[kept].mean(), abs=1e-6)
    assert told > (found == y).mean() + 0.2
