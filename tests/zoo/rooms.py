"""What every room of masslib does with a network, as one word for a table."""

from __future__ import annotations

import re
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import masslib
from masslib import Prune, Quantize, QuantizeAware
from zoo.network import Network

BATCH = 8
OK, CRASH, OBSCURE, WRONG = "ok", "crash", "obscure", "wrong"
UNFIT = {CRASH, OBSCURE, WRONG}
_MOST_WORDS = 1200
"""Characters of a refusal; Keras' errors about a graph are longer, and so are the converter's."""

# What only those who know the insides of Keras, TensorFlow or MLIR can read
_OBSCURE = re.compile(
    r"Traceback|deserializ|legalize|MLIR|loc\(|KerasTensor|operand #|Tensor\(\"|Node: |Graph execution error|"
    r"\.cc:\d|__inference|tfl\.|StatefulPartitionedCall|Expecting value"
)

# Differences relative to the largest output: the mean where values are rounded to eight bits
_ROUNDING = 1e-6
_ALLOWED: dict[str, float] = {"float32": 1e-4, "int8": 5e-2, "dynamic": 3e-2}


def row(network: Network) -> tuple[dict[str, str], list[str]]:
    """Return the cells of a network, and the refusals behind its cells of `told`."""
    data = network.data()
    batches = _batches(data)
    cells: dict[str, str] = {}
    told: list[str] = []
    expected = _built(network).fit(batches, epochs=2, verbose=0).history
    model, cells["fit"] = _cell(told, lambda: _fits(network, batches, expected))
    _, cells["arrays"] = _cell(told, lambda: _fits_arrays(network, data, expected))
    model = model or network.build()
    part, rows = network.deployed(model), network.deployed_rows(data)
    _, cells["bridge"] = _cell(told, lambda: _bridges(part, rows[0]))
    _, cells["Prune"] = _cell(told, lambda: _prunes(part, rows))
    for name, step in (
        ("int8", Quantize("int8")),
        ("dynamic", Quantize("dynamic")),
        ("QAT", QuantizeAware(max_steps=2)),
        ("TFLite", None),
    ):
        _, cells[name] = _cell(told, lambda step=step: _lite(part, rows, step))
    _, cells["SavedModel"] = _cell(told, lambda: _saved(part, rows[0]))
    return cells, told


class Wrong(Exception):
    """A result differs by more than it may."""


def _cell(told: list[str], attempt: Callable[[], Any]) -> tuple[Any, str]:
    """Run one attempt; return its result and the word for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = attempt()
        except Wrong as error:
            told.append(f"{WRONG}: {error}")
            return None, WRONG
        except Exception as error:  # whatever it is, it has a word
            word = _word(error)
            told.append(f"{word}: {type(error).__name__}: {error}")
            return None, word
    return (result, OK) if not isinstance(result, str) else (None, result)


def _word(error: Exception) -> str:
    """A refusal in words, or one of the things that must not be."""
    place = traceback.extract_tb(error.__traceback__)[-1].filename
    ours = f"{Path(masslib.__file__).parent}" in place
    if not ours or not isinstance(error, ValueError | TypeError | ModuleNotFoundError):
        return CRASH
    return OBSCURE if _OBSCURE.search(str(error)) or len(str(error)) > _MOST_WORDS else "told"


def _batches(data: tuple[Any, Any]) -> tf.data.Dataset:
    # A list of arrays would be one tensor for tf.data.
    x, y = (tuple(part) if isinstance(part, list) else part for part in data)
    return tf.data.Dataset.from_tensor_slices(x if y is None else (x, y)).batch(BATCH)


def _built(network: Network) -> keras.Model:
    keras.utils.set_random_seed(0)
    return network.build()


def _fits(network: Network, batches: tf.data.Dataset, expected: dict) -> keras.Model:
    """Train on a dataset, two epochs on the same batches as Keras."""
    model = _built(network)
    _compare_histories(expected, masslib.fit(model, batches, epochs=2, verbose=0, fused=False).history)
    return model


def _fits_arrays(network: Network, data: Any, expected: dict) -> None:
    """Train on arrays in the same order, one epoch."""
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0, "fused": False}
    found = masslib.fit(_built(network), *data, **options).history
    _compare_histories({name: values[:1] for name, values in expected.items()}, found)


def _compare_histories(expected: dict, found: dict) -> None:
    if sorted(expected) != sorted(found):
        raise Wrong(f"History has {sorted(found)}, Keras' {sorted(expected)}")
    for name, values in expected.items():
        difference = _difference(np.asarray(values), np.asarray(found[name]), np.max)
        if not difference <= _ROUNDING:
            raise Wrong(f"{name} {found[name]}, with Keras {values}")


def _difference(expected: np.ndarray, found: np.ndarray, kind: Callable) -> float:
    if expected.shape != found.shape:
        raise Wrong(f"shape {found.shape}, expected {expected.shape}")
    return float(kind(np.abs(expected.astype("float64") - found)) / max(np.abs(expected).max(), 1e-12))


def _compare(expected: Any, found: Any, precision: str) -> None:
    """Compare two structures of outputs."""
    try:
        keras.tree.assert_same_structure(_plain(expected), _plain(found))
    except ValueError as error:
        raise Wrong(f"another structure: {error}") from error
    kind = np.max if precision == "float32" else np.mean
    for ours, theirs in zip(keras.tree.flatten(expected), keras.tree.flatten(found), strict=True):
        difference = _difference(np.asarray(ours), np.asarray(theirs), kind)
        if not difference <= _ALLOWED[precision]:
            raise Wrong(f"{precision}: outputs differ by {difference:.2g}")


def _plain(outputs: Any) -> Any:
    """Lists and tuples are the same here, and so is a list of one and its element."""
    if isinstance(outputs, list | tuple):
        return [_plain(part) for part in outputs] if len(outputs) > 1 else _plain(outputs[0])
    return {name: _plain(part) for name, part in outputs.items()} if isinstance(outputs, dict) else outputs


def _bridges(model: keras.Model, x: Any) -> None:
    twin = masslib.bridge.to_tf_keras(model)
    _compare(_answers(model, x), _answers(twin, x), "float32")


def _answers(model: Any, x: Any) -> Any:
    # Layers that draw at random go on where they are.
    states = [(variable, variable.numpy()) for variable in getattr(model, "non_trainable_variables", ())]
    inputs = keras.tree.map_structure(tf.convert_to_tensor, x)
    if isinstance(model, keras.Model):
        answers = model(inputs, training=False)
    else:
        answers = model(tuple(inputs) if isinstance(inputs, list) else inputs, training=False)
    for variable, value in states:
        variable.assign(value)
    return keras.tree.map_structure(np.asarray, answers)


def _prunes(model: keras.Model, rows: Any) -> str:
    table = masslib.diagnose(model)
    small = masslib.compress(model, Prune(0.5, max_steps=2), _pair(rows), batch_size=BATCH, verbose=False)
    layers = dict(_all_layers(small.model))
    sparse = 0
    for name in table.index[table["prunes"]]:
        if name not in layers:
            continue
        shares = [float(np.mean(np.asarray(weight) == 0)) for weight in layers[name].weights if len(weight.shape) > 1]
        if not any(share >= 0.45 for share in shares):
            raise Wrong(f"diagnose says that {name} prunes, and it has {shares} zeros")
        sparse += 1
    return OK if sparse else "nothing to prune"


def _all_layers(model: Any, prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for layer in getattr(model, "layers", ()):
        name = f"{prefix}{layer.name}"
        found += [(name, layer), *_all_layers(layer, f"{name}/")]
    return found


def _lite(model: keras.Model, rows: Any, step: Any) -> str:
    pair = _pair(rows)
    small = masslib.compress(model, step, pair, batch_size=BATCH, verbose=False) if step else model
    precision = {None: "float32"}.get(step, getattr(step, "precision", "int8"))
    with tempfile.TemporaryDirectory() as folder:
        path, word = Path(folder, "model.tflite"), OK
        try:
            masslib.export.tflite(small, path)
        except ValueError as error:
            if "TFLite has no operator" in str(error):
                _foretold(model)
            if "pass batch_size=1" not in str(error):
                raise
            masslib.export.tflite(small, path, batch_size=1)
            word = "one row"
        with masslib.export.load(path) as predictor:
            found = predictor.predict(rows[0])
    _compare(_answers(small.model if isinstance(step, QuantizeAware) else model, rows[0]), found, precision)
    return word


def _foretold(model: keras.Model) -> None:
    """Whether it was to be known before any training."""
    if masslib.diagnose(model, tflite=True)["converts"].all():
        raise Wrong("TFLite has no operator for some layers, and diagnose says that all can be written")


def _saved(model: keras.Model, x: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = masslib.export.saved_model(model, Path(folder, "model"))
        with masslib.export.load(path) as predictor:
            found = predictor.predict(x)
    _compare(_answers(model, x), found, "float32")


def _pair(rows: Any) -> Any:
    return masslib.data.from_arrays(*rows) if rows[1] is None else rows
