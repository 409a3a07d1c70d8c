"""Settings for nbval, which collects the cells of notebooks as tests, and the kernels that TensorFlow shall use."""

import os

import pytest

import masslib  # noqa: F401  chooses TensorFlow's kernels; tests import Keras before it
from notebook_execution import ENVIRONMENT


def pytest_configure(config: pytest.Config) -> None:
    # The kernels are child processes: give them what `make render` gave them.
    if config.getoption("nbval", False) or config.getoption("nbval_lax", False):
        os.environ.update(ENVIRONMENT)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Two processes share the notebooks. 02 trains the network that these start from, and the rest fills as much time;
    # what 04 needs of 02 is there long before, as three others come first.
    for item in items:
        if item.path.suffix == ".ipynb":
            first = item.path.name[:2] in ("02", "05", "06", "08")
            item.add_marker(pytest.mark.xdist_group("fashion" if first else "others"))


def pytest_collectstart(collector: pytest.Collector) -> None:
    # TensorFlow's C++ log lines come and go, and rendered notebooks hold no stderr to compare with.
    if isinstance(collector, pytest.File) and collector.path.suffix == ".ipynb":
        collector.skip_compare += ("stderr",)
