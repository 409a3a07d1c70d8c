"""Settings for nbval, which collects the cells of notebooks as tests, and the kernels that TensorFlow shall use."""

import importlib.util
import os
from functools import cache

import pytest

import masslib  # noqa: F401  chooses TensorFlow's kernels; tests import Keras before it
from notebook_execution import ENVIRONMENT
from notebook_needs import missing

# The examples of modules that need an extra are read where it is installed.
_EXTRAS = {"launcher/on_ray.py": "ray", "launcher/on_spark.py": "pyspark"}
collect_ignore = [f"masslib/{path}" for path, name in _EXTRAS.items() if importlib.util.find_spec(name) is None]


def pytest_configure(config: pytest.Config) -> None:
    # The kernels are child processes: give them what `make render` gave them.
    if config.getoption("nbval", False) or config.getoption("nbval_lax", False):
        os.environ.update(ENVIRONMENT)


def pytest_collectstart(collector: pytest.Collector) -> None:
    # TensorFlow's C++ log lines come and go, and rendered notebooks hold no stderr to compare with.
    if isinstance(collector, pytest.File) and collector.path.suffix == ".ipynb":
        collector.skip_compare += ("stderr",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip notebooks whose data or extras are missing, with the reason."""
    reason = cache(missing)
    for item in items:
        if item.path.suffix == ".ipynb" and (told := reason(item.path)):
            item.add_marker(pytest.mark.skip(reason=told))
