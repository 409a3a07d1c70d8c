"""Requests for TensorFlow Serving, read back and answered by the model they were written for."""

import importlib.util

import numpy as np
import pytest
import tensorflow as tf

from masslib import export, models

FILE = "assets.extra/tf_serving_warmup_requests"


@pytest.fixture
def model():
    return models.lenet5((28, 28, 1), 10)


def test_every_signature_has_a_request_that_it_answers(model, tmp_path):
    logs = pytest.importorskip(
        "tensorflow_serving.apis.prediction_log_pb2", reason="needs tensorflow-serving-api, the extra `serving`"
    )
    path = export.saved_model(model, tmp_path / "fashion", version=1, labels=list("abcdefghij"))
    signatures = tf.saved_model.load(str(path)).signatures
    asked = {}
    for record in tf.data.TFRecordDataset(str(path / FILE)):
        request = logs.PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.name == "fashion"
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        asked[request.model_spec.signature_name] = signatures[request.model_spec.signature_name](**inputs)
    blank = model(np.zeros((1, 28, 28, 1), "float32"))
    np.testing.assert_allclose(next(iter(asked["serving_default"].values())), blank, atol=1e-6)
    assert asked.keys() == set(signatures) == {"serving_default", "classify"}
    export.load(path)  # whose checksums include the requests


def test_without_the_package_there_are_none(model, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "tensorflow_serving" else find(name, *rest)
    )
    assert not (export.saved_model(model, tmp_path / "fashion") / FILE).exists()
