"""`pip install masslib` alone runs what was exported, and says which extra the rest needs."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import masslib
from notebook_execution import ROOT

# What works without an extra: the rooms for files, and those whose names are imported one by one
LIGHT = {
    "masslib.evaluation.Evaluations",
    "masslib.evaluation.difference",
    "masslib.serve",
    "masslib.serving",
    "masslib.checkpoint",
    "masslib.data",
    "masslib.distribute",
    "masslib.ensemble",
    "masslib.Ensemble",
    "masslib.evaluation",
    "masslib.export",
    "masslib.formats",
    "masslib.graph",
    "masslib.measure",
    "masslib.packaging",
    "masslib.runtime",
    "masslib.selection",
    "masslib.strategy",
    "masslib.verify",
    "masslib.__version__",
    "masslib.evaluation.Evaluation",
    "masslib.export.Inspection",
    "masslib.export.Predictor",
    "masslib.export.inspect",
    "masslib.export.load",
    "masslib.packaging.Golden",
    "masslib.packaging.golden",
    "masslib.packaging.verify",
}

# Tells of every public name, and of what can be done with a file, whether it works.
PROBE = """
import importlib, json, sys
import masslib

told = {}

def look(what, action):
    try:
        value = action()
    except ModuleNotFoundError as error:
        told[what] = str(error)
    else:
        told[what] = ""
        return value

def visit(package):
    for name in getattr(package, "__all__", ()):
        value = look(f"{package.__name__}.{name}", lambda: getattr(package, name))
        if isinstance(value, type(sys)):
            visit(value)

visit(masslib)
for room in ("bridge", "compression", "launcher", "models", "plot", "train"):
    look(f"import masslib.{room}", lambda: importlib.import_module(f"masslib.{room}"))
import numpy as np
rows = masslib.data.from_arrays(np.zeros((4, 2)), [0, 1, 0, 1])
look("load digits", lambda: masslib.data.load("digits"))
look("batches", lambda: rows.batches(2))
look("sample", lambda: rows.sample(2))
look("strategy", lambda: masslib.strategy())
look("inspect", lambda: masslib.export.inspect("model.tflite"))
look("sparsity", lambda: masslib.formats.sparsity("model.tflite"))
look("verify", lambda: masslib.verify("package"))
for name in ("m.onnx", "m.xml", "m.keras", "saved"):
    look(name, lambda: masslib.export.load(name))
with masslib.export.load("model.tflite") as predictor:
    np.save("answers.npy", predictor.predict(np.load("x.npy")))
    look("latency", lambda: masslib.measure.latency(predictor, runs=3))
look("file_size", lambda: masslib.measure.file_size("model.tflite"))
look("flops", lambda: masslib.formats.flops("model.tflite"))
look("weights", lambda: masslib.formats.weights("model.tflite"))
print(json.dumps(told))
"""
# In an environment that has everything, this comes first.
HIDE = """
import json, sys

class Hidden:
    names = set(json.loads(sys.argv[1]))
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
"""
NEEDS = r".+ needs [a-z-]+, which comes with: pip install 'masslib\[(train|serve)\]'"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A TFLite file, rows and the answers of its model to them, and what only extras can read."""
    folder = tmp_path_factory.mktemp("files")
    model = masslib.models.mlp((4,), 3)
    masslib.export.tflite(model, folder / "model.tflite")
    x = np.random.default_rng(0).random((5, 4), "float32")
    np.save(folder / "x.npy", x)
    for name in ("m.onnx", "m.xml"):
        (folder / name).write_bytes(b"anything")
    model.save(folder / "m.keras")
    (folder / "saved").mkdir()
    (folder / "saved" / "saved_model.pb").touch()
    (folder / "package").mkdir()
    return folder, model.predict(x, verbose=0)


def _judge(told: dict[str, str], folder: Path, expected: np.ndarray) -> None:
    """Everything works, or says which extra it needs; and what must work does."""
    np.testing.assert_allclose(np.load(folder / "answers.npy"), expected, atol=1e-6)
    lazy = {name for name in told if re.fullmatch(r"masslib\.(\w+|(evaluation|export|packaging|selection)\.\w+)", name)}
    assert {name for name in lazy if not told[name]} == LIGHT
    for name in ("m.onnx", "m.xml"):
        assert re.fullmatch(
            rf"{name} needs \w+, which comes with: pip install 'masslib\[(onnx|openvino)\]'", told.pop(name)
        )
    assert {"latency", "file_size", "flops", "weights"} <= {name for name in told if not told[name]}
    assert {"inspect", "verify", "strategy", "batches", "sample", "load digits", "m.keras", "saved"} <= set(told)
    for name, words in told.items():
        assert not words or re.fullmatch(NEEDS, words), f"{name}: {words}"
    assert told["masslib.fit"].startswith("masslib.fit needs ")
    assert told["import masslib.compression"].startswith("masslib.compression needs ")


def _light() -> set[str]:
    """The distributions of `pip install masslib`."""
    found, todo = {"masslib"}, ["masslib"]
    while todo:
        for wanted in map(Requirement, importlib.metadata.requires(todo.pop()) or []):
            name = canonicalize_name(wanted.name)
            if name not in found and (not wanted.marker or wanted.marker.evaluate({"extra": ""})):
                found.add(name)
                todo.append(name)
    return found


def test_what_works_without_extras_works_and_the_rest_says_what_it_needs(files):
    folder, expected = files
    light = _light()
    modules = importlib.metadata.packages_distributions().items()
    hidden = [module for module, names in modules if not light & {canonicalize_name(name) for name in names}]
    command = [sys.executable, "-c", HIDE + PROBE, json.dumps(hidden)]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    _judge(json.loads(done.stdout), folder, expected)


MEGABYTES = 150


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a clean copy: a build leaves files behind, and takes up those of earlier ones."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "masslib", source / "masslib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    _run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(target), str(source)], source)
    (built,) = target.glob("masslib-*.whl")
    return built


def _run(command: list[str], folder: Path, status: int = 0) -> str:
    # Without the checkout, which would hide what was installed
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "KERAS_BACKEND")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def _megabytes(folder: Path, without: tuple[str, ...] = ()) -> float:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files if not set(without) & set(path.parts)) / 2**20


@pytest.mark.slow
def test_the_wheel_holds_the_library_its_types_and_its_licence(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "masslib").rglob("*.py")}
    library = {name for name in names if name.startswith("masslib/")}
    assert library == modules | {"masslib/py.typed", "masslib/serving/page.html"}
    (folder,) = {name.partition("/")[0] for name in set(names) - library}
    assert f"{folder}/licenses/LICENSE" in names


@pytest.mark.slow
def test_a_fresh_environment_is_small_and_runs_a_file(wheel, files, tmp_path):
    """`python -m venv`, `pip install masslib`, and nothing else."""
    folder, expected = files
    place = tmp_path / "venv"
    _run([sys.executable, "-m", "venv", str(place)], tmp_path)
    python = str(place / "bin" / "python")
    _run([python, "-m", "pip", "install", "-q", str(wheel)], tmp_path)
    # pip comes with the environment, and in Python 3.11 setuptools.
    tools = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
    assert _megabytes(place, without=tools) <= MEGABYTES
    assert _megabytes(place, without=("__pycache__",)) <= MEGABYTES
    _judge(json.loads(_run([python, "-c", PROBE], folder)), folder, expected)
    told = _run([python, "-m", "masslib", "doctor"], tmp_path)
    assert re.search(r"^  train .* not installed: .* install 'masslib\[train\]'$", told, re.M)
    assert told.endswith("\nmasslib is ready\n")
    told = _run([python, "-m", "masslib", "launch"], tmp_path, status=1)
    assert re.fullmatch(rf"problem: python -m masslib launch{NEEDS[2:]}\n", told)
