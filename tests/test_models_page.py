"""The recipes of docs/models.md run, and answer in the shapes that they tell."""

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
BLOCKS = re.findall(r"^## (.+?)\n|^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
SHAPES = re.compile(r"^    (\w+) = predictor\.predict\(.*\)  # ([({].*[)}])", re.M)


def _recipes():
    recipes, title = {}, ""
    for heading, code in BLOCKS:
        title = heading or title
        if code and title:
            recipes[title] = code
    return recipes


RECIPES = _recipes()
(SETUP,) = [code for _, code in BLOCKS[:1]]
# Needs the model of the recipe before it
SERVING = "For TensorFlow Serving"
# Has 150 layers
LARGE = "Pretrained networks"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the calibration rows")  # random ones may look unnormalised
@pytest.mark.parametrize(
    "title",
    [
        pytest.param(title, marks=pytest.mark.exhaustive) if title == LARGE else title
        for title in RECIPES
        if title != SERVING
    ],
)
def test_a_recipe_runs(title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("build").mkdir()
    code = RECIPES[title] + (RECIPES[SERVING] if title == LARGE else "")
    names = {}
    exec(compile(SETUP + code.replace("epochs=2)", "epochs=2, verbose=0)"), f"{PAGE.name}: {title}", "exec"), names)
    told = SHAPES.findall(code)
    assert told
    for name, shapes in told:
        answers = names[name]
        found = {key: value.shape for key, value in answers.items()} if isinstance(answers, dict) else answers.shape
        assert found == eval(shapes), title
        flat = answers.values() if isinstance(answers, dict) else [answers]
        assert all(np.isfinite(value).all() for value in flat)
