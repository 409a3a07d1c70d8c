"""Requests that TensorFlow Serving sends to a new model by itself, so that the first user does not wait for it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

# Where TensorFlow Serving looks for them; the name has no suffix.
FILE = "assets.extra/tf_serving_warmup_requests"


def write_requests(folder: Path, name: str) -> None:
    """Write a request of blank inputs for every signature of a SavedModel, where tensorflow-serving-api is installed.

    Args:
        folder: The SavedModel, complete but for the requests.
        name: What the model is called in them.

    References:
        TensorFlow Serving, "SavedModel Warmup".
    """
    if importlib.util.find_spec("tensorflow_serving") is None:
        return
    from tensorflow_serving.apis import prediction_log_pb2

    (folder / FILE).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / FILE)) as writer:
        for signature, inputs in tf.saved_model.load(str(folder)).signatures.items():
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name, request.model_spec.signature_name = name, signature
            for key, value in _blank(inputs.structured_input_signature[1]).items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
            writer.write(log.SerializeToString())


def _blank(inputs: Mapping[str, tf.TensorSpec]) -> dict[str, Any]:
    """One row of zeros per input, or one blank photo where photos in files are expected."""
    photo = tf.io.encode_png(tf.zeros((1, 1, 1), tf.uint8))
    return {
        name: photo[None] if spec.dtype == tf.string else tf.zeros([size or 1 for size in spec.shape], spec.dtype)
        for name, spec in inputs.items()
    }
