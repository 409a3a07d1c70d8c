"""A package that is missing is named together with the extra that installs it."""

import importlib.metadata
import sys

import pytest

import masslib
from masslib._util.extras import DISTRIBUTIONS, command, needed_by


@pytest.fixture
def declared(monkeypatch):
    """What an installed masslib would say of itself."""
    lines = ["numpy>=2.4", "scikit-learn>=1.9; extra == 'train'", 'onnx>=1; extra == "onnx"', 'onnx; extra == "test"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    return lines


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("sklearn", r"^The file needs scikit-learn, which comes with: pip install 'masslib\[train\]'$"),
        ("onnx", r"^The file needs onnx, which comes with: pip install 'masslib\[onnx\]'$"),
        ("numpy", "^The file needs numpy, which comes with: pip install masslib$"),
    ],
)
def test_the_message_names_the_package_and_the_command(declared, monkeypatch, module, words):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=words) as raised, needed_by("The file"):
        __import__(module)
    assert raised.value.name == module
    assert type(raised.value.__cause__) is ModuleNotFoundError


def test_the_outermost_name_is_told(declared, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ModuleNotFoundError, match="^masslib.fit needs scikit-learn") as raised:  # noqa: SIM117
        with needed_by("masslib.fit"), needed_by("masslib.train"):
            import sklearn  # noqa: F401
    assert raised.value.__cause__.__cause__ is None


@pytest.mark.parametrize("module", ["nobody_declares_this", "numpy.nonsense", "nobody.declares.this"])
def test_what_masslib_does_not_declare_stays_as_it_is(declared, module):
    with pytest.raises(ModuleNotFoundError, match="^No module named 'n") as raised, needed_by("The file"):
        __import__(module)
    assert raised.value.__cause__ is None


def test_other_errors_of_an_import_stay_as_they_are(declared):
    with pytest.raises(ImportError, match="^libcuda$") as raised, needed_by("The file"):
        raise ImportError("libcuda", name="sklearn")
    assert type(raised.value) is ImportError


def test_without_metadata_the_error_stays_as_it_is(monkeypatch):
    def nothing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", nothing)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ModuleNotFoundError, match="halted"), needed_by("The file"):
        import sklearn  # noqa: F401


def test_lazy_names_say_what_they_need(declared, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("masslib.evaluation")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("evaluate", "evaluation"):
        monkeypatch.delitem(vars(masslib), name, raising=False)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ModuleNotFoundError, match="^masslib.evaluate needs scikit-learn, which comes with"):
        _ = masslib.evaluate


def test_one_command_installs_several_extras(declared):
    assert command("onnx", "sklearn", "onnx") == "pip install 'masslib[onnx,train]'"


def test_names_that_differ_are_those_of_the_installed_packages():
    distributions = importlib.metadata.packages_distributions()
    assert {module: {name} for module, name in DISTRIBUTIONS.items()} == {
        module: set(distributions[module]) for module in DISTRIBUTIONS
    }
