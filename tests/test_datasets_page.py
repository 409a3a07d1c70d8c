"""docs/datasets.md tells of every data set that `load` knows, with the counts it gives."""

import os
import re

import pytest

from masslib.data import catalog, load
from notebook_execution import ROOT

ROWS = re.findall(
    r"^\| `(\w+)` \|.*\| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|",
    (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


def test_every_set_is_there_with_its_files():
    text = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert {name for name, *_ in ROWS} == set(catalog.CATALOG)
    names = {file.name for entry in catalog.CATALOG.values() for form in entry.forms for file in form.files}
    missing = [name for name in names if not all(f"`{part}`" in text for part in name.split("/"))]
    assert missing == ["speech_digits/26eb9aaf76e81b692f806f9140c2d2777410d7a1.zip"]  # named by its commit


@pytest.mark.slow
@pytest.mark.parametrize("name, counts", [(name, counts) for name, *counts in ROWS if name != "mnist"])
def test_the_counts_are_those_of_load(name, counts):
    if catalog.CATALOG[name].forms and not os.environ.get("MASSLIB_DATA"):
        pytest.skip("MASSLIB_DATA does not name the folder of the data sets, see docs/datasets.md")
    splits = load(name)
    assert [f"{len(part):,}" for part in (splits.train, splits.valid, splits.test)] == counts
