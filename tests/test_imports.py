"""Imports in masslib run one way, and the light install stays light."""

import pytest

import imports
from notebook_execution import ROOT

PROJECT = ROOT / "pyproject.toml"


def test_masslib_has_no_circle_and_imports_nothing_from_above_or_undeclared():
    assert imports.problems(ROOT / "masslib", PROJECT) == []


@pytest.mark.parametrize(
    "files, problem",
    [
        ({"graph.py": "from masslib import bridge", "bridge.py": ""}, "graph:1: graph stands below bridge"),
        ({"graph.py": "def f():\n    import masslib.train", "train.py": ""}, "graph:2: graph stands below train"),
        (
            {"train/a.py": "from masslib.train.b import x", "train/b.py": "from masslib.train import a"},
            "a circle of modules: train.a <- train.b <- train.a",
        ),
        (
            {
                "data/a.py": "def f():\n    import masslib.graph.b",
                "data/c.py": "",
                "graph/b.py": "import masslib.data.c",
            },
            "a circle of rooms: data <- graph <- data",
        ),
        ({"runtime.py": "import tensorflow"}, "runtime:1: imports tensorflow at the top"),
        ({"runtime.py": "def f():\n    import torch"}, "runtime:2: imports torch in a function"),
        ({"annex.py": "from masslib import data", "data.py": ""}, "annex:1: the room 'annex' is on no floor"),
    ],
)
def test_what_is_wrong_is_found(tmp_path, files, problem):
    for name, text in {"__init__.py": "", **files}.items():
        path = tmp_path / "masslib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (found,) = imports.problems(tmp_path / "masslib", PROJECT)
    assert found.startswith(problem)
