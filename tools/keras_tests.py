"""Run Keras' own tests of `Model.fit` with `masslib.fit` in its place: `python tools/keras_tests.py CHECKOUT`.

CHECKOUT is a copy of the source of the Keras that is installed, such as that of
`git clone --depth 1 --branch v3.15.1 https://github.com/keras-team/keras`. Those of its tests of the trainer and of the
callbacks that call `fit` run twice, with Keras' own and with masslib's, and the tests that pass with the first only are
printed as a table.

The tests build models of a private class, `Trainer`; here the same models derive from `keras.Model`, as all others do.
`jax` is imported by these tests and not needed by those that run on TensorFlow, so an empty module may stand in for it.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

_FILES = ("keras/src/trainers/trainer_test.py", "keras/src/callbacks/*_test.py")
_SECONDS = 1800


def main() -> int:
    """Print the table; the exit status is 1 if it has a row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="folder of Keras' source")
    parser.add_argument("-k", dest="only", default="", help="run the tests with such names, as in pytest")
    parser.add_argument("--as", dest="trainer", choices=("keras", "masslib"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.trainer:
        return _run_here(arguments.checkout, arguments.trainer, arguments.only)
    files = [path for pattern in _FILES for path in sorted(arguments.checkout.glob(pattern))]
    if not files:
        parser.error(f"{arguments.checkout} holds no {_FILES[0]}; pass a checkout of Keras' source")
    outcomes = {trainer: _outcomes(files, trainer, arguments.only) for trainer in ("keras", "masslib")}
    return _print(outcomes)


# Name of a test -> its outcome, the last line of its error, how often it called `fit`
Outcomes = dict[str, tuple[str, str, int]]


def _print(outcomes: dict[str, Outcomes]) -> int:
    expected = [name for name, (outcome, _, calls) in outcomes["keras"].items() if outcome == "passed" and calls]
    told = {name: outcomes["masslib"].get(name, ("lost", "the process ended before it", 0)) for name in expected}
    lost = {name: reason for name, (outcome, reason, _) in told.items() if outcome != "passed"}
    print(f"{len(expected)} tests that call `fit` pass with Keras, {len(expected) - len(lost)} of them with masslib\n")
    if lost:
        print("| test | with masslib |\n| --- | --- |")
    for name, reason in lost.items():
        print(f"| `{name}` | {reason.replace('|', '/')} |")
    return bool(lost)


def _outcomes(files: list[Path], trainer: str, only: str) -> Outcomes:
    """Run the tests of some files in processes of their own."""
    found: Outcomes = {}
    for file in files:
        with tempfile.TemporaryDirectory() as folder:
            lifted = _lifted(file.read_text(encoding="utf-8")) if trainer == "masslib" else file.read_text("utf-8")
            (Path(folder) / file.name).write_text(lifted, encoding="utf-8")
            command = [sys.executable, __file__, folder, "--as", trainer, "-k", only]
            try:
                subprocess.run(command, stdout=sys.stderr, timeout=_SECONDS, check=False, cwd=folder)
            except subprocess.TimeoutExpired:
                print(f"{file.name} did not end within {_SECONDS} s", file=sys.stderr)
            lines = (Path(folder) / "outcomes").read_text(encoding="utf-8").splitlines()
            found |= {f"{file.stem}::{name}": tuple(told) for name, *told in map(json.loads, lines)}
    return found


def _lifted(source: str) -> str:
    """Let the models of a test derive from `keras.Model` in place of the private `Trainer`."""
    # The only name of a test that `keras.Model` keeps for itself.
    source = source.replace("self.layers", "self.parts").replace(
        "first_kernel = model.layers", "first_kernel = model.parts"
    )
    source = re.sub(r"\(Trainer, layers\.Layer\):", "(__import__('keras').Model):", source)
    return re.sub(r"\(Trainer, (layers\.\w+)\):", r"(\1, __import__('keras').Model):", source)


def _run_here(folder: Path, trainer: str, only: str) -> int:
    """Run the tests in a folder in this process; write the outcomes there, one a line."""
    import pytest

    calls: list[str] = []
    if trainer == "masslib":
        _route()
    import keras  # it looks for jax by itself, and must not find what stands in for it

    if importlib.util.find_spec("jax") is None:
        sys.modules["jax"] = types.ModuleType("jax")
    owner: Any = next(kind for kind in keras.Model.__mro__ if "fit" in vars(kind))
    owner.fit = _counted(owner.fit, calls)
    with open(folder / "outcomes", "w", encoding="utf-8", buffering=1) as file:
        flags = ["-q", "-c", str(folder / "none.ini"), "--rootdir", str(folder), "-p", "no:cacheprovider", "--tb=short"]
        (folder / "none.ini").touch()
        return int(pytest.main([*flags, *(["-k", only] if only else []), str(folder)], plugins=[_Writer(file, calls)]))


def _route() -> None:
    """Let `Model.fit` call `masslib.fit`."""
    import masslib  # before Keras, whose kernels it chooses

    fit = masslib.fit
    import keras

    names = ("x", "y", "batch_size", "epochs", "verbose", "callbacks", "validation_split", "validation_data")

    def routed(model: keras.Model, *args: Any, **settings: Any) -> keras.callbacks.History:
        return fit(model, **dict(zip(names, args, strict=False)), **settings)

    keras.Model.fit = routed


def _counted(fit: Any, calls: list[str]) -> Any:
    @functools.wraps(fit)
    def counted(*args: Any, **settings: Any) -> Any:
        calls.append("fit")
        return fit(*args, **settings)

    return counted


class _Writer:
    """Writes the outcome of every test to a file as soon as it is known, and how often it called `fit`."""

    def __init__(self, file: Any, calls: list[str]):
        self._file, self._calls = file, calls

    def pytest_configure(self, config: Any) -> None:
        """Declare the markers of Keras' tests."""
        for marker in ("requires_trainable_backend", "multi_device"):
            config.addinivalue_line("markers", marker)

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Skip tests for several accelerators, as Keras does."""
        import pytest

        for item in items:
            if "multi_device" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs several devices"))

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note the outcome of a test; of one that fails in a fixture as well."""
        if report.when != "call" and report.passed:
            return
        crash = getattr(report.longrepr, "reprcrash", None)
        reason = " ".join(crash.message.split())[:200] if crash else ""
        name = report.nodeid.partition("::")[2]
        self._file.write(json.dumps([name, report.outcome, reason, len(self._calls)]) + "\n")
        self._calls.clear()


if __name__ == "__main__":
    sys.exit(main())
