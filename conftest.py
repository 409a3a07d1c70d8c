"""Settings for nbval, which collects the cells of notebooks as tests, and the kernels that TensorFlow shall use."""

import os

import pytest

import masslib  # noqa: F401  chooses TensorFlow's kernels; tests import Keras before it
from notebook_execution import ENVIRONMENT


def pytest_configure(config: pytest.Config) -> None:
    # The kernels are child processes: give them what `make render` gave them.
    if config.getoption("nbval", False) or config.getoption("nbval_lax", False):
        os.environ.update(ENVIRONMENT)


def pytest_collectstart(collector: pytest.Collector) -> None:
    # TensorFlow's C++ log lines come and go, and rendered notebooks hold no stderr to compare with.
    if isinstance(collector, pytest.File) and collector.path.suffix == ".ipynb":
        collector.skip_compare += ("stderr",)
