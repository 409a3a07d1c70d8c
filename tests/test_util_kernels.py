"""Which kernels TensorFlow gets, and what the user hears of it."""

import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import masslib
from masslib._util import kernels

_FIT = """
model = masslib.models.mlp((4,), 3)
model.compile(loss="sparse_categorical_crossentropy")
for _ in range(2):
    masslib.fit(model, numpy.zeros((8, 4), "float32"), numpy.arange(8) % 3, verbose=0)
"""
_ON = "oneDNN custom operations are on"
_WARNING = "import masslib first, or set TF_ENABLE_ONEDNN_OPTS=1"


def _errors(code: str, choice: str | None = None) -> str:
    """What a fresh Python prints to stderr that has only this choice of kernels."""
    names = ("TF_ENABLE_ONEDNN_OPTS", "TF_CPP_MIN_LOG_LEVEL")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    if choice is not None:
        environment["TF_ENABLE_ONEDNN_OPTS"] = choice
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stderr


@pytest.mark.slow
@pytest.mark.parametrize(("choice", "on"), [(None, True), pytest.param("0", False, marks=pytest.mark.exhaustive)])
def test_tensorflow_gets_its_faster_kernels_unless_told_otherwise(choice, on):
    log = _errors("import masslib, tensorflow", choice)
    assert (_ON in log) == on, log


@pytest.mark.slow
@pytest.mark.parametrize("choice", [None, pytest.param("0", marks=pytest.mark.exhaustive)])
def test_fit_says_once_that_masslib_came_too_late_where_it_matters(choice):
    log = _errors("import tensorflow, masslib, numpy" + _FIT, choice)
    matters = choice is None and _ON not in log and bool(kernels._processor_flags())
    assert log.count(_WARNING) == matters, log


@pytest.mark.parametrize(
    ("flags", "heard"), [({"avx2", "fma"}, 1), ({"avx2", "avx512_vnni"}, 0), ({"avx2", "amx_int8"}, 0), (set(), 0)]
)
def test_it_matters_on_processors_that_are_not_made_for_networks(monkeypatch, flags, heard):
    monkeypatch.setattr(kernels, "_told", False)
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    monkeypatch.setattr(kernels, "_processor_flags", lambda: flags)
    model = masslib.models.mlp((4,), 3)
    model.compile(loss="sparse_categorical_crossentropy")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            masslib.fit(model, np.zeros((8, 4), "float32"), np.arange(8) % 3, verbose=0)
    ours = [warning for warning in caught if _WARNING in str(warning.message)]
    assert len(ours) == heard
    assert all(warning.filename == __file__ for warning in ours)


@pytest.mark.parametrize(
    ("layer", "channels", "choice", "heard"),
    [
        (lambda: layers.Conv2D(4, 1, strides=2), 3, "1", True),
        (lambda: layers.Conv1D(4, 1, strides=2), 1, "1", True),
        (lambda: layers.Conv2D(4, 1, strides=2), 3, "0", False),
        (lambda: layers.Conv2D(4, 1, strides=2), 4, "1", False),
        (lambda: layers.Conv2D(4, 1), 3, "1", False),
        (lambda: layers.Conv2D(4, 3, strides=2), 3, "1", False),
        (lambda: layers.DepthwiseConv2D(1, strides=2), 3, "1", False),
        (lambda: layers.Conv2DTranspose(3, 1, strides=2), 3, "1", False),
        (lambda: layers.GroupNormalization(groups=1), 3, "1", False),
    ],
)
def test_fit_warns_of_layers_whose_gradient_may_end_the_process(monkeypatch, layer, channels, choice, heard):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", choice)
    layer = layer()
    shape = (4,) * (1 if isinstance(layer, layers.Conv1D) else 2) + (channels,)  # so small that nothing happens
    model = keras.Sequential([keras.Input(shape), layer, layers.Flatten(), layers.Dense(2)])
    model.compile(loss="mse")
    x, y = np.zeros((8, *shape), "float32"), np.zeros((8, 2), "float32")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        masslib.fit(model, x, y, verbose=0)
    assert any(f"layers '{layer.name}': kernels of one pixel" in str(it.message) for it in caught) == heard
