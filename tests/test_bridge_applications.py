"""Every network of keras.applications goes to tf_keras and back: some in `make test-slow`, all in `make test-all`."""

import inspect

import keras
import numpy as np
import pytest

from masslib import bridge
from masslib.graph.nodes import named_layers

NETWORKS = sorted(
    name
    for name, build in inspect.getmembers(keras.applications, callable)
    if "weights" in inspect.signature(build).parameters
)
_SIZES = (32, 48, 64, 71, 75, 96, 224)
# The smallest network that has what others lack: operations between layers
_FEW = ("MobileNetV3Small",)
# With these weights a change in the last bit of the images changes the answers of these by as much as the bridge does.
_MULTIPLIES_ROUNDINGS = ("EfficientNetV2S", "EfficientNetV2M", "EfficientNetV2L")


def _build(name: str) -> keras.Model:
    """Build the network with logits, on the smallest images that it takes, with statistics that are not fresh."""
    build = getattr(keras.applications, name)
    for size in _SIZES:
        try:
            model = build(weights=None, input_shape=(size, size, 3), classifier_activation=None)
            break
        except ValueError as error:
            refused = error
    else:
        raise refused
    rng = np.random.default_rng(3)
    for layer in named_layers(model).values():
        flat = [weight for weight in layer.weights if len(weight.shape) == 1]
        for weight in flat:
            weight.assign(rng.uniform(0.8, 1.2, weight.shape))
        if flat and hasattr(layer, "finalize_state"):
            layer.finalize_state()
    return model


def _there_and_back(name: str) -> float:
    """Cross, come back, and return the largest relative difference between the network and its twin."""
    model = _build(name)
    images = np.random.default_rng(0).uniform(0, 1, (2, *model.input_shape[1:])).astype(model.compute_dtype)
    ours = model(images, training=False).numpy()
    twin = bridge.to_tf_keras(model)
    difference = np.abs(ours - twin(images, training=False)).max() / np.abs(ours).max()
    size = f"{model.count_params():,} weights, {model.input_shape[1]} px"
    print(f"\n{name}, {model.compute_dtype}: {size}, largest relative difference {difference:.1e}")
    assert np.isfinite(ours).all() and np.ptp(ours) > 0
    again = bridge.from_tf_keras(twin, like=model)(images, training=False).numpy()
    assert (again == ours).all()
    return difference


@pytest.fixture
def float64():
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


def test_the_list_is_whole():
    assert len(NETWORKS) >= 38
    assert {"VGG16", "NASNetLarge", "ConvNeXtXLarge", "InceptionResNetV2", "MobileNetV3Large"} <= set(NETWORKS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in _FEW else pytest.mark.exhaustive) for name in NETWORKS]
)
def test_every_network_goes_to_tf_keras_and_back(name):
    difference = _there_and_back(name)
    keras.backend.clear_session()
    if name not in _MULTIPLIES_ROUNDINGS:
        assert difference <= bridge.TOLERANCE


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", _MULTIPLIES_ROUNDINGS)
def test_a_network_that_multiplies_roundings_is_equal_in_float64(name, float64):
    assert _there_and_back(name) <= bridge.TOLERANCE
    keras.backend.clear_session()
