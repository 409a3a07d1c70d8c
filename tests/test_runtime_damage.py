"""Damaged files are refused by name, and never end the process that loads them."""

import functools
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from masslib import export, measure, models
from masslib._util import manifest

LABELS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of each format, and one TFLite file that another program wrote."""
    folder = tmp_path_factory.mktemp("whole")
    model = models.mlp((16,), 3, hidden=(8,))
    model.save(folder / "model.keras")
    call = tf.function(lambda x: model(x, training=False)).get_concrete_function(tf.TensorSpec((1, 16)))
    (folder / "foreign.tflite").write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([call]).convert())
    export.tflite(model, folder / "model.tflite", labels=LABELS, description="for the fuzzing")
    export.saved_model(model, folder / "saved", labels=LABELS)
    return folder


def flipped(content, rng):
    damaged = bytearray(content)
    damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
    return bytes(damaged)


@functools.cache
def readers():
    return {"load": export.load, "inspect": export.inspect, "sparsity": measure.sparsity}


@pytest.mark.parametrize("reader", ["load", "inspect", "sparsity"])
def test_every_flipped_bit_of_a_sealed_file_is_found(files, tmp_path, reader):
    content = (files / "model.tflite").read_bytes()
    path = tmp_path / "flipped.tflite"
    rng = np.random.default_rng(0)
    start = content.index(b"masslib:sha256:")
    seal = range(start, start + len("masslib:sha256:"))
    for _ in range(100):
        damaged = flipped(content, rng)
        if any(damaged[at] != content[at] for at in seal) or damaged[4:8] != b"TFL3":
            continue  # then it is a stranger's file
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="flipped.tflite is damaged: its SHA-256"):
            readers()[reader](path)


@pytest.mark.parametrize("name", ["model.tflite", "foreign.tflite"])
def test_truncated_files_are_refused(files, tmp_path, name):
    content = (files / name).read_bytes()
    path = tmp_path / "short.tflite"
    for length in [0, 1, 7, 8, 40, *np.linspace(100, 0.98 * len(content), 6).astype(int)]:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="short.tflite is (damaged|not a TFLite file)"):
            export.load(path)


@pytest.mark.parametrize("flips", [12, pytest.param(150, marks=pytest.mark.exhaustive)])
def test_flipped_files_of_strangers_never_end_the_process(files, tmp_path, flips):
    """Without a checksum a flipped weight cannot be seen; whatever else is flipped must not reach this process."""
    content = (files / "foreign.tflite").read_bytes()
    path = tmp_path / "flipped.tflite"
    rng = np.random.default_rng(1)
    refused = []
    for number in range(flips):
        damaged = content
        for _ in range(1 + 10 * (number % 3)):
            damaged = flipped(damaged[:4096], rng) + damaged[4096:]
        path.write_bytes(damaged)
        try:
            with export.load(path) as predictor:
                assert len(predictor.predict(np.zeros((2, *predictor.input_shape), "float32"))) == 2
            export.inspect(path)
        except ValueError as error:
            refused.append(str(error))
    assert refused
    assert [words for words in refused if "flipped.tflite" not in words] == []


def test_noise_is_no_model(tmp_path):
    rng = np.random.default_rng(2)
    path = tmp_path / "noise.tflite"
    for length in (64, 5_000):
        path.write_bytes(rng.bytes(4) + b"TFL3" + rng.bytes(length))
        with pytest.raises(ValueError, match="noise.tflite is damaged or needs operators"):
            export.load(path)


def test_every_changed_file_of_a_saved_model_is_named(files, tmp_path):
    names = [file.relative_to(files / "saved") for file in sorted((files / "saved").rglob("*")) if file.is_file()]
    assert {"saved_model.pb", "labels.txt"} <= {name.name for name in names}
    for name in names:
        folder = shutil.copytree(files / "saved", tmp_path / "saved", dirs_exist_ok=True)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(flipped(content, np.random.default_rng(3)))
        with pytest.raises(ValueError, match="is damaged|holds no whole"):
            export.load(folder)
    shutil.copytree(files / "saved", folder, dirs_exist_ok=True)
    (folder / "variables" / "variables.index").unlink()
    with pytest.raises(ValueError, match="saved is damaged: variables/variables.index is missing"):
        export.load(folder)


def test_damaged_keras_files_are_refused(files, tmp_path):
    content = (files / "model.keras").read_bytes()
    path = tmp_path / "damaged.keras"
    rng = np.random.default_rng(4)
    for length in (0, 10, len(content) // 2, len(content) - 10):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="damaged.keras is damaged or no .keras file"):
            export.load(path)
    weights = content.index(b"model.weights.h5") + 100
    for _ in range(20):
        path.write_bytes(content[:weights] + flipped(content[weights:-400], rng) + content[-400:])
        with pytest.raises(ValueError, match="damaged.keras is damaged or no .keras file: the checksum of"):
            export.load(path)


def test_a_tflite_file_answers_in_a_process_that_knows_litert_only(files):
    code = """
import sys
for name in ("masslib", "tensorflow", "keras", "tf_keras"):
    sys.modules[name] = None
import numpy as np
from ai_edge_litert.interpreter import Interpreter
runner = Interpreter(model_path=sys.argv[1]).get_signature_runner("serving_default")
(name,) = runner.get_input_details()
(answer,) = runner(**{name: np.full((5, 16), 0.5, "float32")}).values()
print(*answer.ravel())
"""
    command = [sys.executable, "-c", code, str(files / "model.tflite")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    expected = export.load(files / "model.keras").predict(np.full((5, 16), 0.5))
    np.testing.assert_allclose(np.array(printed.split(), float), expected.ravel(), atol=1e-6)


def test_a_manifest_that_is_gone_is_told(tmp_path):
    (tmp_path / "file").write_text("whole")
    with pytest.raises(ValueError, match="holds no whole manifest.json; make or copy the folder again"):
        manifest.read(tmp_path)
    manifest.write(tmp_path, answer=42)
    found = manifest.read(tmp_path)
    assert (found["answer"], found["files"]["file"]["bytes"], set(found)) == (42, 5, {"answer", "files"})
    (tmp_path / "manifest.json").write_text("")
    with pytest.raises(ValueError, match="holds no whole manifest.json"):
        manifest.read(tmp_path)
