"""What holds for every figure."""

from __future__ import annotations

import ast
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import colors
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from masslib import plot

matplotlib.use("agg")

X = np.linspace(0, 1, 5 * 6 * 6).reshape(5, 6, 6)
Y = np.array([0, 1, 2, 1, 0])
P = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.0, 1.0, 0.0], [0.5, 0.4, 0.1]])
TABLE = pd.DataFrame({"gzipped_kb": [1500.0, 400.0, 60.0], "accuracy": [0.905, 0.904, 0.897]}, ["float", "int8", "all"])
DRAWINGS = {
    "communication": lambda: plot.communication({"all-reduce": 1.0}, workers=3),
    "history": lambda: plot.history({"loss": [0.9, 0.5], "accuracy": [0.7, 0.8], "val_loss": [0.8, 0.6]}),
    "images": lambda: plot.images(X, Y, P, ["shoe", "bag", "shirt"]),
    "confusion": lambda: plot.confusion([[3, 1], [0, 4]]),
    "reliability": lambda: plot.reliability([[10, 0.25, 0.2], [0, np.nan, np.nan], [30, 0.75, 0.7]]),
    "sensitivity": lambda: plot.sensitivity(pd.DataFrame({0.5: [0.9, 0.8]}, index=["dense", "conv"]), 0.9),
    "tradeoff": lambda: plot.tradeoff(TABLE),
    "weights": lambda: plot.weights({"before": X, "after": np.round(4 * X)}),
}


def test_modules_do_not_hide_functions():
    assert sorted(plot.__all__) == sorted(DRAWINGS)
    folder = Path(plot.__file__).parent
    assert not set(plot.__all__) & {path.stem for path in folder.iterdir()}


def test_nothing_else_imports_matplotlib():
    """Whoever does not draw does not wait for it. Imports for type checkers alone never run."""
    folder = Path(plot.__file__).parent
    others = [path for path in folder.parent.rglob("*.py") if folder not in path.parents]
    assert len(others) > 10
    importers = [path.name for path in others if "matplotlib" in imported(ast.parse(path.read_text("utf-8")))]
    assert importers == []


def imported(node):
    """Top-level names of the packages that the code imports when it runs."""
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").partition(".")[0]}
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return set()
    return set().union(*map(imported, ast.iter_child_nodes(node)))


def lightness(color):
    """CIE L*, 0 black to 100 white."""
    rgb = np.array(colors.to_rgb(color))
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return 116 * np.cbrt(luminance) - 16 if luminance > 0.008856 else 903.3 * luminance


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_gives_a_closed_figure_and_leaves_the_settings_alone(draw, tmp_path):
    before = matplotlib.rcParams.copy()
    figure = draw()
    assert isinstance(figure, Figure)
    assert plt.get_fignums() == []
    assert matplotlib.rcParams == before
    figure.savefig(tmp_path / "figure.png")
    assert plt.imread(tmp_path / "figure.png").std() > 0


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_text_is_large_enough_to_print(draw):
    figure = draw()
    texts = [t for t in figure.findobj(matplotlib.text.Text) if t.get_text() and t.get_visible()]
    assert texts
    assert all(t.get_fontsize() in (10, 11) for t in texts)


def test_images_right_and_wrong_differ_in_hue_and_lightness():
    right, wrong = (plot.images(X, Y, P).axes[i].title.get_color() for i in (0, 2))
    assert abs(lightness(right) - lightness(wrong)) > 20
    assert max(lightness(right), lightness(wrong)) < 60, "text has to stand out from white paper"


def test_confusion_numbers_stand_out_from_their_cells():
    rows = [[share, 1000 - share] for share in range(0, 1001, 50)]
    for row in rows:
        ax = plot.confusion(np.array([row, row])).axes[0]
        image = ax.get_images()[0]
        for text in ax.texts:
            column, line = map(int, text.get_position())
            cell = image.cmap(image.norm(image.get_array()[line, column]))
            assert abs(lightness(cell) - lightness(text.get_color())) > 45


@pytest.mark.parametrize(
    "draw", [lambda ax: plot.confusion(np.eye(2, dtype=int), ax=ax), lambda ax: plot.tradeoff(TABLE, ax=ax)]
)
def test_draws_on_given_axes(draw):
    mine, (left, right) = plt.subplots(1, 2)
    try:
        assert draw(right) is mine
        assert plt.get_fignums() == [mine.number]
        assert not left.has_data()
        assert right.has_data()
        with pytest.raises(TypeError, match="ax is a Figure; expected matplotlib Axes"):
            draw(mine)
    finally:
        plt.close(mine)


def test_notebook_shows_a_figure_exactly_once(monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    cells = [
        "from masslib import plot\nplot.confusion([[3, 1], [0, 4]])",
        "plot.history({'loss': [2, 1]})",
        "figure = plot.history({'loss': [2, 1]})",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
    shown = [[output for output in cell.outputs if "image/png" in output.get("data", {})] for cell in notebook.cells]
    assert [len(images) for images in shown] == [1, 1, 0]


@pytest.mark.parametrize("technique", ["sparsity", "rank", "bits"])
def test_sensitivity_spaces_levels_by_what_is_left_from_gentle_to_strong(technique):
    left = {"sparsity": [0.5, 0.25, 0.125], "rank": [0.5, 0.25, 0.125], "bits": [8, 5, 2]}[technique]
    levels = [1 - it for it in left] if technique == "sparsity" else left
    ax = plot.sensitivity(pd.DataFrame([[0.9, 0.8, 0.7]], ["dense"], levels), 0.91, technique).axes[0]
    places = ax.transData.transform([(it, 0.8) for it in ax.get_lines()[0].get_xdata()])[:, 0]
    assert places[0] < places[1] and places[2] - places[1] == pytest.approx(places[1] - places[0])
    assert [t.get_text() for t in ax.get_xticklabels()][0] == ("8" if technique == "bits" else "50 %")


def test_sensitivity_writes_no_level_into_its_neighbour():
    levels = [0.5, 0.51, 0.9, 0.98]
    ax = plot.sensitivity(pd.DataFrame([[0.9] * 4], ["dense"], levels), 0.91).axes[0]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["50 %", "", "90 %", "98 %"]
