"""A packed file unpacks to the TFLite file that it was made from, is smaller than xz makes it, and runs."""

import gzip
import lzma
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import masslib
from masslib import Cluster, Prune, Quantize, QuantizeAware, compress, export, measure
from masslib.runtime.packed import pack, unpack

LABELS = [f"digit {number}" for number in range(10)]
PRECISIONS = ("float32", "float16", "dynamic", "int8", "int16x8")
RECIPES = {
    "pruned": [Prune(0.9, max_steps=30, min_share=0), Quantize("int8")],
    "clustered": [Cluster(16, max_steps=5), Quantize("int8")],
    "aware": [QuantizeAware(max_steps=5)],
    "all": [Prune(0.9, max_steps=30), Cluster(16, max_steps=5), QuantizeAware(max_steps=5)],
}


@pytest.fixture(scope="module")
def splits():
    return masslib.data.load("digits")


@pytest.fixture(scope="module")
def model(splits):
    """Of every kind of kernel one, and trained, for noise cannot be packed."""
    keras.utils.set_random_seed(0)
    image = keras.Input(splits.input_shape)
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(image)))
    x = layers.DepthwiseConv2D(3)(x)
    x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
    model = keras.Model(image, layers.Dense(10, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    masslib.fit(model, splits.train, batch_size=64, epochs=3, verbose=0)
    return model


def small(model, splits, recipe):
    if recipe in RECIPES:
        return compress(model, RECIPES[recipe], splits.train, verbose=False)
    return model if recipe == "float32" else compress(model, Quantize(recipe), splits.train, verbose=False)


@pytest.mark.parametrize(
    "recipe",
    [
        *("float32", "int8"),
        pytest.param("all", marks=pytest.mark.slow),
        *(pytest.param(it, marks=pytest.mark.exhaustive) for it in (*PRECISIONS[1:3], *RECIPES) if it != "all"),
    ],
)
def test_every_bit_comes_back_and_the_file_is_smaller_than_that_of_xz(model, splits, tmp_path, recipe):
    about = {"labels": LABELS, "description": "reads digits"}
    compressed = small(model, splits, recipe)
    plain = export.tflite(compressed, tmp_path / "model.tflite", **about)
    path = export.packed(compressed, tmp_path / "model.packed", **about)
    content = plain.read_bytes()
    assert unpack(path.read_bytes()) == content
    assert path.stat().st_size < len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))
    assert path.read_bytes() == export.packed(plain, tmp_path / "again.packed").read_bytes()
    with export.load(path) as ours, export.load(plain) as theirs:
        assert (ours.labels, ours.format) == (LABELS, "tflite")
        x = splits.test[:][0]
        assert np.array_equal(ours.predict(x), theirs.predict(x))


@pytest.fixture(scope="module")
def pruned(model, splits, tmp_path_factory):
    compressed = compress(model, Prune(0.9, max_steps=30), splits.train, verbose=False)
    folder = tmp_path_factory.mktemp("pruned")
    export.tflite(compressed, folder / "model.tflite", labels=LABELS)
    export.packed(folder / "model.tflite", folder / "model.packed")
    return folder


def test_all_that_reads_tflite_files_reads_packed_ones(pruned, model, splits):
    plain, path = pruned / "model.tflite", pruned / "model.packed"
    assert measure.sparsity(path).equals(measure.sparsity(plain))
    assert measure.flops(path) == measure.flops(plain)
    ours, theirs = export.inspect(path), export.inspect(plain)
    assert ours.table.equals(theirs.table)
    assert (ours.labels, ours.file_bytes) == (LABELS, path.stat().st_size)
    size = measure.file_size(path)
    assert size.raw == size.gzipped == path.stat().st_size < 0.75 * measure.file_size(plain).gzipped
    assert masslib.evaluate(path, splits.test).accuracy == masslib.evaluate(plain, splits.test).accuracy
    table = masslib.agreement(model, {"plain": plain, "packed": path}, splits.test)
    assert table.loc["plain"].equals(table.loc["packed"])


def test_it_is_loaded_without_tensorflow_and_without_a_file(pruned, tmp_path):
    code = f"""
import os, sys, tempfile
import numpy as np
import masslib
tempfile.tempdir = {str(tmp_path)!r}
with masslib.runtime.load({str(pruned / "model.packed")!r}) as predictor:
    print(predictor.predict(np.zeros((2, *predictor.input_shape))).shape)
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(2, 10)\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_package_and_the_smallest_file_can_be_packed_ones(model, splits, tmp_path):
    masslib.package(model, tmp_path / "digits", splits, formats=["tflite", "packed-int8"], verbose=False)
    assert list(masslib.verify(tmp_path / "digits")["file"]) == ["float32.tflite", "int8.packed"]
    found = masslib.fastest(model, splits, objective="size", max_drop=1.0, verbose=False)
    assert found.table["size_kb"].idxmin().startswith("packed")


def test_arguments_that_make_no_sense_are_refused(pruned, tmp_path):
    with pytest.raises(ValueError, match="must end in .packed"):
        export.packed(pruned / "model.tflite", tmp_path / "model.tflite")
    with pytest.raises(ValueError, match="labels: a file is packed as it is"):
        export.packed(pruned / "model.tflite", tmp_path / "model.packed", labels=LABELS)
    with pytest.raises(TypeError, match="expected a Keras model"):
        export.packed(3, tmp_path / "model.packed")
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_every_kind_come_back():
    """What the converter does not write, too: odd floats, long integers, tensors of one value."""
    rng = np.random.default_rng(0)
    content = export_of(
        [
            np.float32([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, 3.4e38, 1.0] * 4),
            rng.standard_normal((40, 30)).astype("float32") * (rng.random((40, 30)) < 0.1),
            np.rint(rng.standard_normal((40, 30)) * 2).astype("float32") * np.float32(0.0123),
            np.zeros((64, 64), "int8"),
            np.full((64, 64), -128, "int8"),
            rng.integers(-128, 128, (64, 65)).astype("int8"),
            rng.integers(-(2**62), 2**62, 40),
            rng.choice(rng.standard_normal(5), (8, 30)).astype("float16"),
            np.int32([-(2**31), 2**31 - 1, 0, 5] * 10),
        ]
    )
    assert unpack(pack(content)) == content
    # Nothing that is there by chance may pass for a seal.
    sealed = content + b"masslib:sha256:" + b"0" * 64
    assert unpack(pack(sealed)) == sealed
    assert unpack(pack(content + b"masslib:sha256:")) == content + b"masslib:sha256:"


def export_of(arrays):
    """A TFLite file that holds some tensors and computes nothing."""
    from ai_edge_litert import schema_py_generated as schema

    from masslib.formats.schema import packed

    numbers = {name.lower(): value for name, value in vars(schema.TensorType).items() if name.isupper()}
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, graph.tensors = 3, [schema.BufferT()], []
    for array in arrays:
        buffer, tensor = schema.BufferT(), schema.TensorT()
        buffer.data = np.frombuffer(array.tobytes(), "uint8")
        tensor.type, tensor.shape, tensor.buffer = numbers[array.dtype.name], list(array.shape), len(model.buffers)
        model.buffers.append(buffer)
        graph.tensors.append(tensor)
    graph.inputs = graph.outputs = graph.operators = []
    model.subgraphs, model.operatorCodes = [graph], []
    return packed(model, 2**16)


def damaged_files(content, rng, number):
    """The file, cut off, flipped, or with a piece of another length in it."""
    for i in range(number):
        at = int(rng.integers(4, len(content)))
        if i % 3 == 0:
            yield content[:at]
        elif i % 3 == 1:
            yield content[:at] + bytes([content[at] ^ 1 << int(rng.integers(8))]) + content[at + 1 :]
        else:
            yield content[:at] + rng.bytes(int(rng.integers(9))) + content[at + 1 + int(rng.integers(9)) :]


@pytest.mark.parametrize("number", [150, pytest.param(5000, marks=pytest.mark.exhaustive)])
def test_damaged_files_give_one_error(pruned, tmp_path, number):
    content = (pruned / "model.packed").read_bytes()
    path = tmp_path / "damaged.packed"
    for damaged in damaged_files(content, np.random.default_rng(0), number):
        if damaged == content:
            continue
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged.packed cannot be unpacked: it is"):
            export.load(path)
    for noise in (b"", b"MPK", b"MPK\x02" + bytes(99), content[1:]):
        path.write_bytes(noise)
        with pytest.raises(ValueError, match="damaged.packed cannot be unpacked: it is"):
            export.inspect(path)


@pytest.mark.parametrize("number", [150, pytest.param(5000, marks=pytest.mark.exhaustive)])
def test_heads_of_strangers_end_nothing(pruned, number):
    """A head that was written anew says anything about the tensors, and its compressed form is sound."""
    from masslib.runtime.packed import container
    from masslib.runtime.packed.fields import Fields

    content, rng = (pruned / "model.packed").read_bytes(), np.random.default_rng(1)
    front = Fields(content)
    start = front.piece(4 + 32)
    size, method, plain_size, length = (front.number() for _ in range(4))
    filters = container._LZMA[method]
    plain = lzma.decompress(front.piece(length), lzma.FORMAT_RAW, filters=filters)
    stream = front.rest()
    assert len(plain) == plain_size
    for _ in range(number):
        head = bytearray(plain)
        for at in rng.integers(0, 120, rng.integers(1, 4)):
            head[at] = rng.integers(256)
        if head == plain:
            continue
        compressed = lzma.compress(head, lzma.FORMAT_RAW, filters=filters)
        damaged = Fields(start)
        for value in (size, method, len(head), len(compressed)):
            damaged.number(value)
        with pytest.raises(ValueError, match="it is damaged"):
            unpack(bytes(damaged.content) + compressed + stream)


def test_sizes_are_bounded_before_anything_is_made(pruned):
    """A file that says of itself that it is huge takes neither memory nor time."""
    from masslib.runtime.packed.fields import Fields

    huge = Fields(b"MPK\x01" + bytes(32))
    for value in (2**40, 0, 2**40, 4):
        huge.number(value)
    with pytest.raises(ValueError, match="is the most there can be"):
        unpack(bytes(huge.content) + bytes(99))


def test_it_beats_gzip_and_xz_by_what_it_knows_of_weights():
    """Kernels as pruning, clustering and quantization leave them."""
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((128, 256)) * rng.uniform(0.3, 1, 256)
    pruned = np.where(np.abs(kernel) > 1.2, kernel, 0)
    centroids = np.sort(rng.standard_normal(15)) * 40
    clustered = centroids[np.abs(pruned[..., None] * 40 - centroids).argmin(-1)] * (pruned != 0)
    for levels in (pruned * 40, clustered):
        content = export_of([np.clip(np.rint(levels), -127, 127).astype("int8")])
        size = len(pack(content))
        assert size < 0.75 * len(gzip.compress(content, 9))
        assert size < 0.85 * len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))
