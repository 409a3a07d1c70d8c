"""What a chapter asserts of its one seed holds with others, too."""

import re

import nbformat
import pytest

from notebook_execution import ROOT, execute
from notebook_needs import missing

CHAPTERS = ("15_text", "16_speech", "17_encoder_decoder", "18_language_model", "19_sparse")
SEEDED = re.compile(r"set_random_seed\(0\)")


@pytest.mark.exhaustive
@pytest.mark.alone
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", CHAPTERS)
def test_the_claims_of_a_chapter_hold_with_another_seed(name, seed, tmp_path):
    path = ROOT / "notebooks" / f"{name}.ipynb"
    if needs := missing(path):
        pytest.skip(needs)
    notebook, seeded = nbformat.read(path, as_version=4), 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source, found = SEEDED.subn(f"set_random_seed({seed})", cell.source)
            seeded += found
    assert seeded
    folder = tmp_path / "notebooks"  # so that ../build is a folder of its own
    folder.mkdir()
    execute(notebook, folder, tmp_path / "log")
