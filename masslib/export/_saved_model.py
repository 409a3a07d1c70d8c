"""Export to TensorFlow's SavedModel."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from masslib._util import manifest
from masslib._util.checks import check_counts
from masslib._util.files import SAVED_MODEL_MANIFEST, replacing
from masslib.export import inference, parity, photos, preflight, warm_up
from masslib.formats import metadata
from masslib.graph.probes import probe_inputs

_PROBES = 16


def saved_model(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    version: int | None = None,
    labels: Sequence[str] | None = None,
    batch_size: int | None = None,
    scale: float = 1 / 255,
    example_inputs: np.ndarray | None = None,
) -> Path:
    """Write a model as a SavedModel folder, and check the folder against the model.

    The signature `serving_default` takes a batch of any size. With labels there is `classify` beside it for models of
    images: it takes PNG or JPEG files as byte strings `(n,)` and reads them as `masslib.data.from_directory` does with
    `resize="stretch"`: turned as EXIF says, transparent pixels white, times `scale`. It answers `labels` and
    `probabilities` `(n, classes)`, the most probable first. A model compiled with a loss of `from_logits=True` gets the
    softmax or sigmoid of that loss; other numbers outside of 0 to 1 are called `logits`. TensorFlow loads the folder
    without masslib or Keras; `masslib.runtime.load` checks the checksums in `assets.extra/masslib.json` before it does.
    Where tensorflow-serving-api is installed (the extra `serving`), there are requests in `assets.extra` that warm up
    TensorFlow Serving before the first user comes. A model that computes in mixed precision does so in the folder, too.

    Args:
        model: A built Keras 3 model with one input and one output.
        path: The folder to make; one that `saved_model` made is replaced once the new one was checked.
        version: Write to the folder `path/<version>`, the layout that TensorFlow Serving watches.
        labels: Names of the outputs, such as `splits.classes`; they lie in `assets/labels.txt`, too.
        batch_size: Rows that `serving_default` takes at once; by default any number.
        scale: What `classify` multiplies the pixels from 0 to 255 by; 1 for a model that rescales them itself.
        example_inputs: Rows `(n, *input_shape)` of your data to check the file on, as for `masslib.export.tflite`.

    Returns:
        The path of the folder with `saved_model.pb`.

    Raises:
        TypeError: If `model` is not a Keras model, or the labels are no list of strings.
        ValueError: If a number is not positive; there is not one label per output; or the written folder answers
            differently from the model. Nothing is left behind then.

    References:
        `keras.export.ExportArchive`; TensorFlow Serving, "Architecture" (servable versions).

    Example:
        >>> import masslib, tempfile
        >>> model = masslib.models.mlp((4,), 3)
        >>> path = masslib.export.saved_model(model, tempfile.mkdtemp() + "/mlp", version=1)
        >>> path.parent.name, path.name, sorted(entry.name for entry in path.iterdir())
        ('mlp', '1', ['assets', 'assets.extra', 'fingerprint.pb', 'saved_model.pb', 'variables'])
    """
    preflight.check_keras(model)
    preflight.check_batch_size(batch_size)
    if version is not None:
        check_counts(version=(version, 0))
    examples = preflight.check_examples(example_inputs, model)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not scale > 0:
        raise ValueError(f"scale={scale!r}: expected a positive number, such as 1 / 255")
    labels = metadata.check_labels(labels, model.outputs[0].shape[-1])
    path = Path(path) if version is None else Path(path, str(version))
    with replacing(path) as temporary:
        with inference.converting(model, "TensorFlow"):
            export_graph(model, temporary, batch_size, labels, scale)
        warm_up.write_requests(temporary, path.name if version is None else path.parent.name)
        manifest.write(temporary, SAVED_MODEL_MANIFEST)
        parity.check(temporary, model, inputs=examples)
    return path


def export_graph(
    model: keras.Model,
    folder: str | os.PathLike[str],
    batch_size: int | None = None,
    labels: list[str] | None = None,
    scale: float = 1 / 255,
) -> None:
    """Write a SavedModel as it is, unchecked."""
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default", lambda x: model(x, training=False), [inference.signature(model, batch_size)]
    )
    with tempfile.TemporaryDirectory() as place:
        if labels is not None:
            _add_labels(archive, model, Path(place, metadata.LABELS), labels, scale)
        archive.write_out(str(folder), verbose=False)


def _add_labels(archive: Any, model: keras.Model, path: Path, labels: list[str], scale: float) -> None:
    """Put the labels into the assets; if the inputs are images, add the signature `classify`, too."""
    path.write_text("\n".join(labels) + "\n", encoding="utf-8")
    lines = tf.lookup.TextFileInitializer(
        str(path), tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE
    )
    names = tf.lookup.StaticHashTable(lines, "")
    archive.track(names)
    shape = tuple(model.inputs[0].shape[1:])
    if len(shape) == 3 and None not in shape and shape[2] in (1, 3):
        archive.add_endpoint(
            "classify", _classifier(model, names, shape, scale), [tf.TensorSpec((None,), tf.string, "images")]
        )


def _classifier(model: keras.Model, names: Any, shape: tuple[int, int, int], scale: float) -> Callable:
    answer, link = _probabilities(model)

    def decode(content: tf.Tensor) -> tf.Tensor:
        return photos.decode(content, shape) * scale

    def classify(images: tf.Tensor) -> dict[str, tf.Tensor]:
        pixels = tf.map_fn(decode, images, fn_output_signature=tf.TensorSpec(shape, tf.float32))
        outputs = link(model(tf.cast(pixels, model.inputs[0].dtype), training=False))
        values, order = tf.math.top_k(outputs, k=model.outputs[0].shape[-1])
        return {"labels": names.lookup(tf.cast(order, tf.int64)), answer: values}

    return classify


def _probabilities(model: keras.Model) -> tuple[str, Callable]:
    """What `classify` may call its numbers, and what makes them of the outputs of a model."""
    loss = model.loss if getattr(model, "compiled", False) else None
    if isinstance(loss, keras.losses.Loss) and loss.get_config().get("from_logits"):
        return "probabilities", tf.sigmoid if "Binary" in type(loss).__name__ else tf.nn.softmax
    outputs = np.asarray(model(probe_inputs(model, _PROBES), training=False))
    # Floats of half precision exceed 1 by a rounding.
    return "probabilities" if outputs.min() >= -0.01 and outputs.max() <= 1.01 else "logits", tf.identity
