"""Which kernels TensorFlow gets, and what the user hears of it."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

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
@pytest.mark.parametrize(("choice", "on"), [(None, True), ("0", False)])
def test_tensorflow_gets_its_faster_kernels_unless_told_otherwise(choice, on):
    log = _errors("import masslib, tensorflow", choice)
    assert (_ON in log) == on, log


@pytest.mark.slow
@pytest.mark.parametrize("choice", [None, "0"])
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
