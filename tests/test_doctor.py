"""`python -m masslib doctor` finds what does not fit, says it in words, and names what mends it."""

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import psutil
import pytest

import masslib
from masslib.__main__ import main
from masslib.doctor import declared_ranges, import_findings, package_findings

ROOT = Path(masslib.__file__).parent.parent
RANGES = declared_ranges()
TRAIN = [*RANGES.needed, *RANGES.extras["train"]]
PIP = r"\S+ -m pip "


class Site:
    """A site-packages folder with the oldest release of every package that masslib[train] needs."""

    def __init__(self, folder):
        self.folder = folder
        for requirement in TRAIN:
            self.put(requirement.name, next(s.version for s in requirement.specifier if s.operator == ">="))

    def put(self, name, version, requires=(), module=None):
        self.remove(name)
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {line}" for line in requires]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        (info / "top_level.txt").write_text(module or name.replace("-", "_"))

    def remove(self, name):
        for info in self.folder.glob(f"{name.replace('-', '_')}-*.dist-info"):
            shutil.rmtree(info)


@pytest.fixture
def site(tmp_path, monkeypatch):
    for name in ("TF_USE_LEGACY_KERAS", "KERAS_BACKEND", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "site").mkdir()
    made = Site(tmp_path / "site")
    monkeypatch.setattr(sys, "path", [str(made.folder)])
    return made


def _examine(capsys, *options):
    """Run the command; return everything that it tells."""
    code = main(["doctor", *options])
    told = capsys.readouterr().out
    assert code == (0 if told.endswith("\nmasslib is ready\n") else 1)
    return told


def _problem(capsys, *options):
    """Expect exactly one problem; return it with what mends it."""
    told = _examine(capsys, *options)
    assert told.endswith("\n1 problem\n"), told
    return told[told.index("\nproblem: ") + 1 :].removesuffix("1 problem\n")


def test_the_declared_versions_have_no_problem(site, capsys):
    told = _examine(capsys, "--quick")
    assert "problem" not in told
    assert re.search(r"^  flatbuffers +25\.9\.23 +>=25\.9\.23$", told, re.M)
    assert re.search(r"^  train .* complete$", told, re.M)
    assert re.search(r"^\d+ of \d+ cores, [\d.]+ GB of memory$", told, re.M)


def test_the_light_install_has_no_problem_and_says_how_to_get_the_rest(site, capsys):
    for requirement in RANGES.extras["train"]:
        site.remove(requirement.name)
    told = _examine(capsys, "--quick")
    assert "problem" not in told
    assert re.search(rf"^  train .* not installed: {PIP}install 'masslib\[train\]'$", told, re.M)
    assert not re.search(r"^  tensorflow ", told, re.M)


def test_extras_that_are_not_there_are_no_problem_and_say_how_to_get_them(site, capsys):
    site.put("onnx", "1.23.2")
    told = _examine(capsys, "--quick")
    assert re.search(rf"^  onnx .*without onnxruntime and tf2onnx: {PIP}install 'masslib\[onnx\]'$", told, re.M)
    assert re.search(rf"^  openvino .*not installed: {PIP}install 'masslib\[openvino\]'$", told, re.M)


def test_an_extra_out_of_range_is_a_note_and_leaves_masslib_ready(site, capsys):
    site.put("openvino", "2025.1")
    told = _examine(capsys, "--quick")
    assert "note: openvino 2025.1 is installed; masslib[openvino] needs openvino>=2026.4\n" in told
    assert told.endswith("\nmasslib is ready\n")


PACKAGES = {
    "flatbuffers is not installed; masslib needs flatbuffers>=25.9.23": (
        lambda site: site.remove("flatbuffers"),
        "install 'flatbuffers>=25.9.23'",
    ),
    "pandas 2.2.3 is installed; masslib[train] needs pandas>=3.1": (
        lambda site: site.put("pandas", "2.2.3"),
        "install 'pandas>=3.1'",
    ),
    "tensorflow-cpu and tensorflow install the module 'tensorflow', which masslib expects from tensorflow alone": (
        lambda site: site.put("tensorflow-cpu", "2.21.0", module="tensorflow"),
        rf"uninstall -y tensorflow-cpu tensorflow && {PIP}install 'tensorflow>=2.21'",
    ),
    "tensorflow 2.22.0 is installed; tf-keras 2.21 needs tensorflow<2.22,>=2.21": (
        lambda site: (
            site.put("tensorflow", "2.22.0"),
            site.put("tf-keras", "2.21", ["tensorflow<2.22,>=2.21"]),
        ),
        "install 'tensorflow<2.22,>=2.21'",
    ),
    "absl-py 2.3.0 is installed; tensorflow-model-optimization 0.8.1 needs absl-py~=1.2": (
        lambda site: (
            site.put("absl-py", "2.3.0"),
            site.put("tensorflow-model-optimization", "0.8.1", ["absl-py~=1.2", "dm-tree; extra == 'x'"]),
        ),
        "install 'absl-py~=1.2'",
    ),
    "tzdata is not installed; pandas 3.1 needs tzdata>=2024": (
        lambda site: site.put("pandas", "3.1", ["tzdata>=2024"]),
        "install 'tzdata>=2024'",
    ),
}


@pytest.mark.parametrize("words", PACKAGES)
def test_packages_that_do_not_fit(words, site, capsys):
    breaks, mend = PACKAGES[words]
    breaks(site)
    assert re.fullmatch(rf"problem: {re.escape(words)}\n  mend it: {PIP}{mend}\n", _problem(capsys, "--quick"))


def test_several_problems_are_counted_and_each_is_told_once(site, capsys):
    site.put("tensorflow-serving-api", "2.20.1")  # in two extras
    site.put("tf-keras", "2.20.1")
    site.remove("numpy")
    told = _examine(capsys, "--quick")
    assert told.count("problem: ") == 2
    assert told.count("note: ") == 2
    assert told.endswith("\n2 problems\n")


def test_python_outside_of_the_range(site):
    for python in ("3.10.12", "3.14.0"):
        (finding,) = package_findings(RANGES, python)
        assert finding.what == f"this is Python {python}; masslib needs {RANGES.python}"
        assert "python3.11 -m venv .venv" in finding.mend
    assert package_findings(RANGES, "3.13.2") == []


def test_outside_of_a_checkout_the_ranges_are_those_of_the_installed_package(tmp_path):
    ranges = declared_ranges(tmp_path)
    assert ranges.source == "the installed package"
    assert {entry.name for entry in ranges.needed} == {entry.name for entry in RANGES.needed}
    assert ranges.extras.keys() == RANGES.extras.keys()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(tmp_path)])
        with pytest.raises(metadata.PackageNotFoundError, match="masslib"):
            declared_ranges(tmp_path)


def test_a_command_whose_own_packages_are_missing_says_so(capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("masslib.doctor", "packaging."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "packaging", None)
    assert main(["doctor"]) == 1
    told = capsys.readouterr().out
    assert told == "problem: python -m masslib doctor needs packaging, which comes with: pip install masslib\n"


def test_legacy_keras(site, capsys, monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    told = _problem(capsys, "--quick")
    assert told.startswith("problem: TF_USE_LEGACY_KERAS is '1', which puts Keras 2 in the place of tf.keras;")
    assert told.endswith("mend it: unset TF_USE_LEGACY_KERAS\n")


def test_another_backend_in_the_environment_or_in_the_settings(site, capsys, monkeypatch, tmp_path):
    settings = tmp_path / "keras.json"
    settings.write_text('{"backend": "jax"}')
    told = _problem(capsys, "--quick")
    assert told.startswith(f'problem: {settings} says "backend": "jax"; masslib needs "tensorflow"\n')
    assert told.endswith(f'mend it: change it to "backend": "tensorflow" in {settings}\n')
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert "problem" not in _examine(capsys, "--quick")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert "KERAS_BACKEND is 'torch'; masslib needs Keras on 'tensorflow'\n" in _problem(capsys, "--quick")
    monkeypatch.delenv("KERAS_BACKEND")
    settings.write_text("{")
    assert f"note: {settings} cannot be read (" in _examine(capsys, "--quick")


FAKE_TENSORFLOW = """
class config:
    list_physical_devices = staticmethod(lambda: [type("Device", (), {"name": "/physical_device:CPU:0"})])
    class threading:
        get_intra_op_parallelism_threads = staticmethod(lambda: 2)
        get_inter_op_parallelism_threads = staticmethod(lambda: 0)
"""


@pytest.fixture
def modules(site, monkeypatch):
    """Empty modules in the place of all that is imported, but for a TensorFlow with one device."""
    for name in [requirement.name.replace("-", "_") for requirement in TRAIN] + ["PIL", "sklearn"]:
        (site.folder / f"{name}.py").touch()
    (site.folder / "tensorflow.py").write_text(FAKE_TENSORFLOW)
    monkeypatch.setenv("PYTHONPATH", str(site.folder))
    return site.folder


def test_devices_and_threads_are_told(modules, capsys):
    told = _examine(capsys)
    assert re.search(
        r"^TensorFlow sees CPU:0; threads within an operation: 2, between: \d+ \(one per core\)$", told, re.M
    )


def test_an_import_that_fails(modules, capsys):
    (modules / "tf_keras.py").write_text("raise ImportError('no such symbol')")
    told = _problem(capsys)
    assert told.startswith("problem: tf_keras cannot be imported: ImportError: no such symbol\n")
    assert told.endswith("pip install --force-reinstall --no-deps tf-keras==2.21\n")


def test_an_import_that_takes_the_process_along(modules, capsys):
    (modules / "tensorflow.py").write_text("import os\nos.write(2, b'bad instruction')\nos.abort()")
    told = _examine(capsys)
    assert "problem: tensorflow cannot be imported: the process ended with status -6: bad instruction\n" in told
    assert "\nTensorFlow does not start\n" in told


def test_an_import_that_never_ends(modules):
    (modules / "keras.py").write_text("import time\ntime.sleep(600)")
    (finding,), seen = import_findings([entry for entry in TRAIN if entry.name == "keras"], limit=2)
    assert finding.what == "keras cannot be imported: the process had no end within 2 s"
    assert seen == {}


@pytest.mark.slow
def test_this_installation_is_in_order():
    """The whole command, with the real imports."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    command = [sys.executable, "-m", "masslib", "doctor"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^TensorFlow sees CPU:0", done.stdout, re.M)
    assert re.search(rf"^  psutil +{re.escape(psutil.__version__)} ", done.stdout, re.M)
    assert re.search(r"^  notebooks .* complete$", done.stdout, re.M)
    assert re.search(r"^  test .* complete$", done.stdout, re.M)
