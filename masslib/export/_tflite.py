"""Export to TFLite, the format of LiteRT."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from masslib._util.files import BLANK_SEAL, replacing, seal
from masslib.export import _saved_model as savedmodel
from masslib.export import endpoints, inference, int4, parity, preflight, rows
from masslib.export.endpoints import Endpoint
from masslib.formats import metadata, schema
from masslib.graph.encodings import plainly_encoded
from masslib.graph.precision import unmixed
from masslib.runtime.litert import LABELS, STRUCTURES

_CALIBRATED = ("int8", "int16x8")


class Exportable(Protocol):
    """What a compressed model tells about its export; `masslib.Compressed` is one."""

    @property
    def model(self) -> Any: ...

    @property
    def precision(self) -> str: ...

    @property
    def calibration(self) -> Any: ...


def tflite(
    model: keras.Model | Exportable | Mapping[str, Any],
    path: str | os.PathLike[str],
    *,
    sparse: bool = False,
    batch_size: int | str | None = None,
    labels: Sequence[str] | None = None,
    description: str | None = None,
    example_inputs: Any = None,
) -> Path:
    """Write a model as a TFLite file, and check the file against the model.

    A plain Keras model becomes a float32 file; a `Compressed` model one in the precision of its `Quantize` or
    `QuantizeAware` step. A model that computes in mixed precision is written in float32. Inputs and outputs keep their
    types in every precision: floats are float32. They are named as by `masslib.export.saved_model`; the structure that
    the names do not tell, lists and tuples, lies in the file, too, so that `masslib.runtime.load(path).predict` takes
    and answers what the model does. The file carries its own SHA-256 in the metadata (`masslib.runtime.load` verifies
    it): LiteRT by itself accepts damaged weights silently.

    The method is TensorFlow's TFLiteConverter; see its guides on post-training quantization and on
    quantization-aware training.

    Args:
        model: A built Keras model, or a `Compressed` one; one of a class of your own whose inputs are unknown needs
            `example_inputs`. A tf_keras model that TFMOT trained for quantization becomes an int8 file. A dict of
            several, all of one precision, becomes as many signatures of one file, of which the first is the default,
            such as `{"encode": encoder, "decode": decoder}`; weights that they share are stored once. A signature may
            also be a `tf.function` with an `input_signature`, such as a step of a generator.
        path: The file to write, ending in `.tflite`.
        sparse: Store kernels with many zeros without them (the converter's EXPERIMENTAL_SPARSITY), which makes the
            file itself smaller and not only what gzip leaves of it. For float32 only.
        batch_size: Rows that the file takes at once; by default any number. Some models can be converted for a fixed
            number only, such as those with recurrent layers: pass 1, or `"auto"`, which takes 1 for them, with a
            warning. `masslib.runtime` loads both alike, and its `predict` takes any number of rows.
        labels: Names of the values of the only output, such as `splits.classes`, stored inside the file as TFLite
            metadata (`labels.txt`), where the libraries for phones look for them.
        description: What the model is, for people; stored inside the file, too.
        example_inputs: Rows `(n, *input_shape)` of your data to check the file on, in the structure of the inputs; by
            default the calibration rows, or random ones that suit the model. Of several signatures, a dict by name.

    Returns:
        The path of the file.

    Raises:
        ModuleNotFoundError: If the precision is int4 and the extra `int4` is not installed.
        TypeError: If `model` is neither, or the labels are no list of strings.
        ValueError: If the name does not end in `.tflite`; the model still carries TFMOT's training wrappers, or
            was quantized by Keras; the calibration rows are missing, of another shape or not finite; sparse is
            asked for in another precision; there is not one label per output; the converter cannot write the model; or
            the file answers differently from the model by more than its precision allows. Nothing is left behind then.

    Example:
        >>> import masslib, tempfile
        >>> model = masslib.models.mlp((4,), 3)
        >>> path = masslib.export.tflite(model, tempfile.mkdtemp() + "/mlp.tflite", labels=["cat", "dog", "emu"])
        >>> path.name, masslib.export.load(path).labels
        ('mlp.tflite', ['cat', 'dog', 'emu'])
    """
    path = Path(path)
    preflight.check_suffix(path, ".tflite", "a TFLite file")
    if batch_size != "auto":
        preflight.check_batch_size(batch_size)
    plan = _planned(model, example_inputs, sparse)
    labels = endpoints.check_labels(labels, plan.endpoints)
    with replacing(path) as temporary:
        content = _converted(plan, batch_size, sparse)
        content = _described(content, next(iter(plan.models.values())), description, labels)
        if plan.precision == "int4":
            content = int4.quantized(content)
        temporary.write_bytes(metadata.with_files(content, _texts(plan, labels)))
        seal(temporary)
        parity.check(temporary, plan.endpoints, plan.precision, plan.examples)
    return path


@dataclass(frozen=True)
class _Plan:
    """What a file is made from: its models by signature, and the rows that calibrate and check them."""

    models: dict[str, Any]
    precision: str
    aware: bool
    calibration: dict[str, dict[str, np.ndarray]]
    examples: dict[str, dict[str, np.ndarray] | None]

    @property
    def endpoints(self) -> list[Endpoint]:
        return self.described(None)

    def described(self, batch_size: int | None) -> list[Endpoint]:
        return [endpoints.endpoint(name, model, batch_size) for name, model in self.models.items()]


def _planned(model: Any, example_inputs: Any, sparse: bool) -> _Plan:
    parts = endpoints.parts(model)
    given = endpoints.by_name(example_inputs, parts, isinstance(model, Mapping))
    models, precisions, aware, calibration, examples = {}, {}, [], {}, {}
    for name, part in parts.items():
        network, precision, rows_kept = preflight.unpacked(part)
        network = endpoints.seen(name, network, given[name])
        learned = preflight.is_keras(network) and preflight.learned_ranges(network)
        models[name] = plainly_encoded(unmixed(network)) if preflight.is_keras(network) else network
        precisions[name], endpoint = "int8" if learned else precision, endpoints.endpoint(name, models[name])
        preflight.check_sparse(sparse, precisions[name])
        aware.append(learned)
        if not learned and precision in _CALIBRATED:
            if isinstance(network, keras.Model):
                preflight.check_calibration(network, f"Quantize({precision!r})")
            calibration[name] = rows.calibration(rows_kept, endpoint)
        examples[name] = rows.examples(given[name], endpoint) or calibration.get(name)
    if len(set(precisions.values())) > 1 or len(set(aware)) > 1:
        raise ValueError(
            f"the signatures have the precisions {precisions}, learned in training by {sum(aware)} of them; a file "
            "has one precision"
        )
    return _Plan(models, next(iter(precisions.values())), aware[0], calibration, examples)


def _converted(plan: _Plan, batch_size: int | str | None, sparse: bool) -> bytes:
    """Convert models; of an open batch that fails, say whether a fixed one would do, or take it."""

    def set_up(converter: Any) -> None:
        _set_up(converter, plan.precision, plan.calibration, plan.aware, sparse)

    if isinstance(batch_size, int):
        return _convert(plan.described(batch_size), set_up)
    try:
        return _convert(plan.endpoints, set_up)
    except ValueError as error:
        if not all(preflight.is_keras(it) and it.inputs[0].shape[0] is None for it in plan.models.values()):
            raise
        try:
            content = _convert(plan.described(1), set_up)
        except ValueError:
            raise error from error.__cause__
        if batch_size != "auto":
            raise ValueError(
                f"{error}; pass batch_size=1, with which it can be written (`predict` of the loaded file takes any "
                "number of rows all the same)"
            ) from error
    warnings.warn(
        f"{plan.endpoints[0].title} becomes a file of one row at a time, because TFLite cannot hold it for any number",
        stacklevel=3,
    )
    return content


def _convert(several: list[Endpoint], set_up: Callable[[Any], None]) -> bytes:
    # Through a SavedModel: from_keras_model prints a page of endpoints for a Keras 3 model, and traces every layer of a
    # tf_keras model for the sake of those who would load it again.
    with tempfile.TemporaryDirectory() as folder, inference.converting(several, "TensorFlow's converter"):
        savedmodel.export_graph(several, folder)
        names = [endpoint.name for endpoint in several]
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=names)
        set_up(converter)
        return converter.convert()


def _set_up(
    converter: Any, precision: str, calibration: dict[str, dict[str, np.ndarray]], aware: bool, sparse: bool
) -> None:
    if sparse:
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    if precision not in ("float32", "int4"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    # The ranges of a quantization-aware model are in its graph; layers without any stay in float.
    if precision in _CALIBRATED and not aware:
        converter.representative_dataset = lambda: _representative(calibration)
        converter.target_spec.supported_ops = [_integer_operators(precision)]


def _representative(calibration: dict[str, dict[str, np.ndarray]]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """One row after the other, by signature and input, as the converter wants them."""
    for name, arrays in calibration.items():
        for row in range(max(len(array) for array in arrays.values())):
            yield name, {key: array[row : row + 1] for key, array in arrays.items()}


def _integer_operators(precision: str) -> Any:
    if precision == "int8":
        return tf.lite.OpsSet.TFLITE_BUILTINS_INT8
    return tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8


def _described(content: bytes, model: Any, description: str | None, labels: list[str] | None) -> bytes:
    """Add a blank seal, and what was told about the model, to a TFLite flatbuffer."""
    unpacked = schema.unpacked(content)
    if description is not None or labels is not None:
        metadata.describe(unpacked, getattr(model, "name", "model"), description, labels)
    schema.add_metadata(unpacked, "masslib_sha256", BLANK_SEAL)
    return schema.packed(unpacked, len(content) + 4096)


def _texts(plan: _Plan, labels: list[str] | None) -> dict[str, str]:
    """What lies behind the model in its file: labels, and the structures where names do not tell them."""
    texts = {} if labels is None else {LABELS: "\n".join(labels)}
    several = plan.endpoints
    if len(several) > 1 or not several[0].plain:
        texts[STRUCTURES] = json.dumps({endpoint.name: endpoint.told for endpoint in several}, ensure_ascii=False)
    return texts
