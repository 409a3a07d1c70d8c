"""Export to TensorFlow's SavedModel."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from masslib._util import manifest
from masslib._util.checks import check_counts
from masslib._util.files import SAVED_MODEL_MANIFEST, replacing
from masslib.export import endpoints, inference, parity, photos, preflight, rows, texts, warm_up
from masslib.export.endpoints import Endpoint
from masslib.formats import metadata
from masslib.graph.probes import probe_inputs
from masslib.runtime.signature import arranged

_PROBES = 16


def saved_model(
    model: keras.Model | Mapping[str, Any],
    path: str | os.PathLike[str],
    *,
    version: int | None = None,
    labels: Sequence[str] | None = None,
    batch_size: int | None = None,
    scale: float | None = 1 / 255,
    vectorizer: keras.layers.TextVectorization | None = None,
    example_inputs: Any = None,
) -> Path:
    """Write a model as a SavedModel folder, and check the folder against the model.

    The signature `serving_default` takes a batch of any size. Its inputs and outputs are named by their keys where the
    model has dicts, else by the `Input` and the layer that an output comes from; one output alone is `output_0`. The
    structure itself lies in `assets.extra/masslib.json`, so that `masslib.runtime.load(path).predict` takes and answers
    what the model does.

    With labels there is `classify` beside it for models of images: it takes PNG or JPEG files as byte strings `(n,)`
    and reads them as `masslib.data.from_directory` does with `resize="stretch"`: turned as EXIF says, transparent
    pixels white, times `scale`. With a `vectorizer` it takes texts `(n,)` instead and makes the token ids in the graph.
    It answers `labels` and `probabilities` `(n, classes)`, the most probable first. A model compiled with a loss of
    `from_logits=True` gets the softmax or sigmoid of that loss; other numbers outside of 0 to 1 are called `logits`.

    TensorFlow loads the folder without masslib or Keras; `masslib.runtime.load` checks the checksums in
    `assets.extra/masslib.json` before it does. Where tensorflow-serving-api is installed (the extra `serving`), there
    are requests in `assets.extra` that warm up TensorFlow Serving before the first user comes. A model that computes in
    mixed precision does so in the folder, too.

    Args:
        model: A built Keras 3 model; one of a class of your own whose inputs are unknown needs `example_inputs`. A dict
            of several becomes as many signatures, of which the first is the default; their weights are stored once
            where they share them. A signature may also be a `tf.function` with an `input_signature`, such as a step of
            a generator.
        path: The folder to make; one that `saved_model` made is replaced once the new one was checked.
        version: Write to the folder `path/<version>`, the layout that TensorFlow Serving watches.
        labels: Names of the values of the only output, such as `splits.classes`; they lie in `assets/labels.txt`, too.
        batch_size: Rows that `serving_default` takes at once; by default any number.
        scale: What `classify` multiplies the pixels from 0 to 255 by; 1 for a model that rescales them itself; None
            leaves `classify` out.
        vectorizer: The layer that made the token ids which the model takes, adapted or with a vocabulary; with labels.
        example_inputs: Rows `(n, *input_shape)` of your data to check the file on, as for `masslib.export.tflite`.

    Returns:
        The path of the folder with `saved_model.pb`.

    Raises:
        TypeError: If `model` is not a Keras model, or the labels are no list of strings.
        ValueError: If a number is not positive; there is not one label per output; the vectorizer makes something else
            than the model takes; or the written folder answers differently from the model. Nothing is left behind then.

    References:
        `keras.export.ExportArchive`; TensorFlow Serving, "Architecture" (servable versions).

    Example:
        >>> import masslib, tempfile
        >>> model = masslib.models.mlp((4,), 3)
        >>> path = masslib.export.saved_model(model, tempfile.mkdtemp() + "/mlp", version=1)
        >>> path.parent.name, path.name, sorted(entry.name for entry in path.iterdir())
        ('mlp', '1', ['assets', 'assets.extra', 'fingerprint.pb', 'saved_model.pb', 'variables'])
    """
    preflight.check_batch_size(batch_size)
    if version is not None:
        check_counts(version=(version, 0))
    if scale is not None and (isinstance(scale, bool) or not isinstance(scale, int | float) or not scale > 0):
        raise ValueError(f"scale={scale!r}: expected a positive number, such as 1 / 255, or None")
    parts = endpoints.parts(model)
    given = endpoints.by_name(example_inputs, parts, isinstance(model, Mapping))
    several = [
        endpoints.endpoint(name, endpoints.seen(name, part, given[name]), batch_size) for name, part in parts.items()
    ]
    checked = {endpoint.name: rows.examples(given[endpoint.name], endpoint) for endpoint in several}
    labels = endpoints.check_labels(labels, several)
    if vectorizer is not None:
        texts.check(vectorizer, labels, several)
    path = Path(path) if version is None else Path(path, str(version))
    with replacing(path) as temporary:
        with inference.converting(several, "TensorFlow"):
            export_graph(several, temporary, labels, scale, vectorizer)
        warm_up.write_requests(temporary, path.name if version is None else path.parent.name)
        told = {endpoint.name: endpoint.told for endpoint in several}
        manifest.write(temporary, SAVED_MODEL_MANIFEST, signatures=told)
        parity.check(temporary, several, inputs=checked)
    return path


def export_graph(
    several: list[Endpoint],
    folder: str | os.PathLike[str],
    labels: list[str] | None = None,
    scale: float | None = 1 / 255,
    vectorizer: keras.layers.TextVectorization | None = None,
) -> None:
    """Write a SavedModel as it is, unchecked."""
    archive = keras.export.ExportArchive()
    for endpoint in several:
        if isinstance(endpoint.model, keras.Model):
            archive.track(endpoint.model)
        else:
            archive.track(_states(endpoint.model))
        archive.add_endpoint(endpoint.name, endpoint.graph, list(endpoint.specs.values()))
    with tempfile.TemporaryDirectory() as place:
        if labels is not None:
            _add_labels(archive, several[0], Path(place, metadata.LABELS), labels, scale, vectorizer)
        archive.write_out(str(folder), verbose=False)


def _states(model: Any) -> tf.Module:
    """The random states of a tf_keras model, which are no variables of it."""
    module = tf.Module()
    layers = getattr(model, "layers", ())
    module.states = [state for layer in layers for state in getattr(layer, "random_states", ())]
    return module


def _add_labels(
    archive: Any,
    endpoint: Endpoint,
    path: Path,
    labels: list[str],
    scale: float | None,
    vectorizer: keras.layers.TextVectorization | None,
) -> None:
    """Put the labels into the assets; if the inputs are images or texts, add the signature `classify`, too."""
    path.write_text("\n".join(labels) + "\n", encoding="utf-8")
    lines = tf.lookup.TextFileInitializer(
        str(path), tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE
    )
    names = tf.lookup.StaticHashTable(lines, "")
    archive.track(names)
    specs = list(endpoint.specs.values())
    shape = tuple(specs[0].shape[1:])
    is_image = len(specs) == 1 and len(shape) == 3 and None not in shape and shape[2] in (1, 3)
    if vectorizer is not None:
        archive.track(vectorizer)
        classify = _classifier(endpoint, names, vectorizer)
        archive.add_endpoint("classify", classify, [tf.TensorSpec((None,), tf.string, "texts")])
    elif scale is not None and is_image and isinstance(endpoint.model, keras.Model):
        classify = _classifier(endpoint, names, lambda images: photos.decode_all(images, shape) * scale)
        archive.add_endpoint("classify", classify, [tf.TensorSpec((None,), tf.string, "images")])


def _classifier(endpoint: Endpoint, names: Any, read: Callable) -> Callable:
    """What answers byte strings, of which `read` makes inputs of the model, with labels and probabilities."""
    answer, link = _probabilities(endpoint)
    (spec,), classes = endpoint.specs.values(), endpoint.model.outputs[0].shape[-1]

    def classify(strings: tf.Tensor) -> dict[str, tf.Tensor]:
        (answers,) = endpoint.graph(tf.cast(read(strings), spec.dtype)).values()
        values, order = tf.math.top_k(link(answers), k=classes)
        return {"labels": names.lookup(tf.cast(order, tf.int64)), answer: values}

    return classify


def _probabilities(endpoint: Endpoint) -> tuple[str, Callable]:
    """What `classify` may call its numbers, and what makes them of the outputs of a model."""
    model = endpoint.model
    loss = model.loss if getattr(model, "compiled", False) else None
    if isinstance(loss, keras.losses.Loss) and loss.get_config().get("from_logits"):
        return "probabilities", tf.sigmoid if "Binary" in type(loss).__name__ else tf.nn.softmax
    (outputs,) = endpoint.answered(arranged(probe_inputs(model, _PROBES), endpoint.takes)).values()
    # Floats of half precision exceed 1 by a rounding.
    inside = np.min(outputs) >= -0.01 and np.max(outputs) <= 1.01
    return "probabilities" if inside else "logits", tf.identity
