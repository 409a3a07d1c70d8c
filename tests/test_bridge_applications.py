"""Every network of keras.applications goes to tf_keras and back: three in `make test`, all in `make test-all`."""

import inspect

import keras
import numpy as np
import pytest

from masslib import bridge

NETWORKS = sorted(
    name
    for name, build in inspect.getmembers(keras.applications, callable)
    if "weights" in inspect.signature(build).parameters
)
_SIZES = (32, 48, 64, 71, 75, 96, 224)
# The smallest network that has what others lack: operations between layers, LayerScale, Normalization
_QUICK = ("MobileNetV3Small", "ConvNeXtTiny", "EfficientNetB0")


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
    for layer in bridge.equality.leaves(model).values():
        flat = [weight for weight in layer.weights if len(weight.shape) == 1]
        for weight in flat:
            weight.assign(rng.uniform(0.8, 1.2, weight.shape))
        if flat and hasattr(layer, "finalize_state"):
            layer.finalize_state()
    return model


def test_the_list_is_whole():
    assert len(NETWORKS) >= 38
    assert {"VGG16", "NASNetLarge", "ConvNeXtXLarge", "InceptionResNetV2", "MobileNetV3Large"} <= set(NETWORKS)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in _QUICK else pytest.mark.slow) for name in NETWORKS]
)
def test_every_network_goes_to_tf_keras_and_back(name):
    model = _build(name)
    images = np.random.default_rng(0).uniform(0, 1, (2, *model.input_shape[1:])).astype("float32")
    ours = model(images, training=False).numpy()
    twin = bridge.to_tf_keras(model)
    theirs = twin(images, training=False).numpy()
    difference = np.abs(ours - theirs).max() / np.abs(ours).max()
    size = f"{model.count_params():,} weights, {model.input_shape[1]} px"
    print(f"\n{name}: {size}, largest relative difference {difference:.1e}")
    assert np.isfinite(ours).all() and np.ptp(ours) > 0
    assert difference <= bridge.TOLERANCE
    again = bridge.from_tf_keras(twin, like=model)(images, training=False).numpy()
    assert np.abs(again - ours).max() == 0
    keras.backend.clear_session()
