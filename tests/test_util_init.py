"""What is imported late is seen by type checkers and editors all the same."""

import ast
import importlib
import os
import subprocess
import sys

import pytest

from notebook_execution import ROOT

LAZY = [
    str(path.parent.relative_to(ROOT)).replace("/", ".")
    for path in sorted((ROOT / "masslib").rglob("__init__.py"))
    if " = attach(" in path.read_text(encoding="utf-8")
]


def test_packages_with_lazy_names_are_found():
    assert {"masslib", "masslib.export"} <= set(LAZY)


@pytest.mark.parametrize("package", LAZY)
def test_type_checkers_see_the_names_that_there_are(package):
    """The block that only they read imports every lazy name, each from the module that the table names."""
    module = importlib.import_module(package)
    tree = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {}
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom)
        for alias in statement.names:
            assert alias.asname == alias.name, "only `import x as x` re-exports"
            seen[alias.name] = f"{package}.{alias.name}" if statement.module == package else statement.module
    table = module._ATTRIBUTES if package == "masslib" else module._NAMES
    assert seen == table
    assert set(seen) <= set(module.__all__)


def test_a_name_that_moved_still_works_and_says_where_it_is():
    import masslib

    with pytest.warns(DeprecationWarning, match=r"masslib.export.verify is now masslib.verify"):
        assert masslib.export.verify is masslib.verify
    assert "verify" not in dir(masslib.export)


RIGHT = """
import numpy as np

import masslib
from masslib import Prune, Quantize
from masslib.export import load

x, y = np.zeros((8, 4), "float32"), np.zeros(8, "int64")
model = masslib.models.mlp((4,), 3)
masslib.fit(model, x, y, epochs=1, batch_size=4)
small: masslib.Compressed = masslib.compress(model, [Prune(0.5), Quantize("int8")], (x, y))
path = masslib.export.tflite(small, "model.tflite")
size: int = masslib.measure.file_size(path).raw
with load(path, threads=2) as predictor:
    answers: np.ndarray = predictor.predict(x)
table = masslib.compare(model, {"pruned": Prune(0.5)}, masslib.data.load("digits"))
table.plot().savefig("table.png")
"""
# Line -> what a type checker says of it
WRONG = {
    "import masslib": "",
    "from masslib.export import tflight": 'Module "masslib.export" has no attribute "tflight"',
    "masslib.compres": 'Module has no attribute "compres"',
    "masslib.selection.fast": 'Module has no attribute "fast"',
    'masslib.Prune("half")': 'Argument 1 to "Prune" has incompatible type "str"',
    'masslib.fit(None, None, epochs="three")': 'Argument "epochs" to "fit" has incompatible type "str"; expected "int"',
    "masslib.export.load(3)": 'Argument 1 to "load" has incompatible type "int"; expected "str | PathLike[str]"',
    'masslib.export.load("m.tflite", threads="two")': 'Argument "threads" to "load" has incompatible type "str"',
    'masslib.export.load("m.tflite").answer': '"Predictor" has no attribute "answer"',
}


@pytest.mark.slow
def test_mypy_checks_the_script_of_a_user(tmp_path):
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text("\n".join(WRONG))
    # silent: only what is wrong in the two scripts; most of what masslib builds on has no types.
    options = ["--follow-imports=silent", "--ignore-missing-imports", "--no-error-summary", f"--cache-dir={tmp_path}"]
    command = [sys.executable, "-m", "mypy", *options, "right.py", "wrong.py"]
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180)
    assert done.stderr == ""
    told = done.stdout.splitlines()
    expected = [f"wrong.py:{row}: error: {words}" for row, words in enumerate(WRONG.values(), 1) if words]
    assert len(told) == len(expected), done.stdout
    for line, start in zip(told, expected, strict=True):
        assert line.startswith(start)
