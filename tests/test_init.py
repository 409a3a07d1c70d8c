"""`import masslib` is cheap, and an exported file runs without TensorFlow."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

import masslib


def _python(code: str, *arguments: str) -> str:
    return subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True).stdout


def test_import_is_fast_and_loads_no_framework():
    loaded = json.loads(_python("import masslib, sys, json; print(json.dumps(sorted(sys.modules)))"))
    assert not {"tensorflow", "keras", "tf_keras", "numpy", "matplotlib", "pandas", "ray", "pyspark"} & set(loaded)

    def seconds(code: str) -> float:
        start = time.perf_counter()
        _python(code)
        return time.perf_counter() - start

    pairs = [(seconds("import masslib"), seconds("pass")) for _ in range(9)]
    extra = sorted(ours - bare for ours, bare in pairs)[len(pairs) // 2]
    assert extra < 0.050, f"import masslib takes {extra * 1000:.0f} ms more than bare Python"


def test_every_public_name_resolves():
    for name in masslib.__all__:
        assert getattr(masslib, name) is not None
    assert set(masslib.__all__) <= set(dir(masslib))
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'; it has .*compare"):
        _ = masslib.nonsense


def test_tflite_predicts_without_tensorflow(tmp_path):
    model = masslib.models.mlp((4,), 3)
    path = masslib.export.tflite(model, tmp_path / "mlp.tflite")
    code = """
import sys
for name in ("tensorflow", "keras", "tf_keras"):
    sys.modules[name] = None                       # an import of it now raises ImportError
import masslib, numpy
print(masslib.export.load(sys.argv[1]).predict(numpy.full((2, 4), 0.5, "float32")).tolist())
"""
    found = np.array(json.loads(_python(code, str(path))))
    np.testing.assert_allclose(found, model(np.full((2, 4), 0.5, "float32")), atol=1e-6)
