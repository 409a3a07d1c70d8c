"""Notebooks whose data or extras are missing are skipped, with the reason."""

from functools import cache

import pytest

from notebook_needs import missing


def pytest_collection_modifyitems(items):
    reason = cache(missing)
    for item in items:
        if item.path.suffix == ".ipynb" and reason(item.path):
            item.add_marker(pytest.mark.skip(reason=reason(item.path)))
