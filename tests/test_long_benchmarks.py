"""Networks that take longer to train than a chapter has, and the targets that they have to meet."""

import subprocess
import sys

import pytest

from masslib.data.catalog import CATALOG
from masslib.data.sources import is_at_hand
from notebook_execution import ROOT


@pytest.mark.exhaustive
@pytest.mark.alone
@pytest.mark.parametrize(
    ("data", "command"),
    [("shakespeare", "language_model.py train"), ("cmudict", "spelling.py gru judge")],
    ids=["nats per character, within 15 minutes", "phonemes of words that were not seen"],
)
def test_the_long_training_meets_its_target(data, command, tmp_path):
    if not is_at_hand(CATALOG[data]):
        pytest.skip(f"the data {data} are not at hand: see docs/datasets.md")
    script, *what = command.split()
    call = [sys.executable, ROOT / "benchmarks" / script, *what, "--folder", tmp_path]
    ended = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=7200)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr[-2000:]}"
    assert ": met" in ended.stdout
