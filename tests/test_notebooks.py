"""The committed notebooks obey the rules, every rule finds its fault, rendering hides the machine."""

import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbval.plugin import get_sanitize_patterns

import notebooks
from notebook_execution import ROOT, clean
from notebook_rules import index_page, index_problems, notebook_paths, problems

SANITIZE = (ROOT / "tests" / "nbval_sanitize.cfg").read_text(encoding="utf-8")
COMMITTED = notebook_paths(ROOT / "notebooks")


def good_notebook():
    """The smallest notebook without a fault; cell 4 is its code."""
    return new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        cells=[
            new_markdown_cell("# A title\n\n**Needs** nothing.\n\nA cell | that\nadds.\n\nMore."),
            new_markdown_cell("## What you will learn"),
            new_markdown_cell("## Setup"),
            new_code_cell(
                "%matplotlib inline\n1 + 1",
                execution_count=1,
                outputs=[new_output("execute_result", {"text/plain": "2"}, execution_count=1)],
                metadata={"tags": ["nbval-check-output"]},
            ),
            new_markdown_cell("```\n# no heading\n```\n## What to remember"),
            new_markdown_cell("## Try it"),
            new_markdown_cell("## Next"),
        ],
    )


def write(notebook, path):
    path.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def checkout(tmp_path):
    """A checkout with nothing but what `make render` reads."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "nbval_sanitize.cfg").write_text(SANITIZE, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_notebook(path):
    assert problems(path) == []


def test_committed_index():
    assert COMMITTED
    assert index_problems(ROOT / "notebooks") == []


def test_a_good_notebook_has_no_problem(tmp_path):
    assert problems(write(good_notebook(), tmp_path / "01_good.ipynb")) == []


def source(text, number=4):
    return lambda notebook: notebook.cells[number - 1].update(source=text)


def output(*outputs):
    return lambda notebook: notebook.cells[3].update(outputs=list(outputs))


def printed(text, name="stdout"):
    return output(new_output("stream", name=name, text=text))


BROKEN = {
    "two titles": (source("# Again\n## Next", 7), "first-level heading: 1, 7;"),
    "no title": (source("A title", 1), "first-level heading: none;"),
    "late title": (lambda notebook: notebook.cells.insert(0, new_markdown_cell("Hello")), "heading: 2;"),
    "no section": (source("Try it", 6), "'## Try it' is missing"),
    "kernel": (lambda notebook: notebook.metadata.kernelspec.update(name="tf"), "the kernel is 'tf'"),
    "line magic": (source("import os\n%time os"), "cell 4: not plain Python.*'%time os'"),
    "cell magic": (source("%%bash\nls"), "cell 4: not plain Python.*'%%bash'"),
    "shell": (source("!ls"), "cell 4: not plain Python.*'!ls'"),
    "shell in an assignment": (source("files = !ls"), "cell 4: not plain Python.*'files = !ls'"),
    "seven definitions": (
        source("\n".join(["def f(): ...", "async def g(): ...", "class A:\n    def h(self): ..."] * 3)),
        "cell 4: more than 6 functions and classes",
    ),
    "long cell": (source("1\n" * 20 + "1"), "cell 4: 21 lines, at most 20"),
    "white space": (source("## Next\n", 7), "cell 7: ends in white space"),
    "home in the source": (source("open('/home/me/x')"), "cell 4: /home in the source"),
    "home in the prose": (source("## Next\nSee `C:\\Users`.", 7), r"cell 7: C:\\ in the source"),
    "home in the output": (printed("saved \x1b[1m/Users/me/x"), "cell 4: /Users in the output"),
    "stderr": (printed("oh", "stderr"), "cell 4: output on stderr"),
    "error": (
        output(new_output("error", ename="OSError", evalue="")),
        "cell 4: its output is the error OSError",
    ),
    "large output": (printed("x" * 400_001), "cell 4: an output of 400,0.. bytes"),
    "no count": (
        lambda notebook: notebook.cells[3].update(execution_count=None),
        "cell 4: .*count None, not 1",
    ),
    "wrong count": (lambda notebook: notebook.cells[3].update(execution_count=7), "cell 4: .*count 7, not 1"),
    "unchecked": (lambda notebook: notebook.cells[3].update(metadata={}), "no code cell has the tag"),
    "shown": (
        lambda notebook: notebook.cells[3].metadata.tags.append("show-only"),
        "cell 4: has the tag show-only, but its output is there",
    ),
    "hidden figure": (source("masslib.plot.history(h)\nassert h"), "cell 4: the figure of masslib.plot.history"),
    "semicolon": (source("1 + 1;"), "cell 4: ends in `;`"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_every_rule_finds_its_fault_and_only_that(fault, tmp_path):
    breaks, words = BROKEN[fault]
    notebook = good_notebook()
    breaks(notebook)
    problem, *others = problems(write(notebook, tmp_path / "01_broken.ipynb"))
    assert set(others) <= {problem}
    assert re.fullmatch(rf"01_broken\.ipynb.*{words}.*`make render`", problem)


def test_what_only_looks_like_a_fault_passes(tmp_path):
    notebook = good_notebook()
    lines = [
        'text = """',
        "%time",
        "!ls",
        '"""',
        "rest = (7",
        "  % 4)",
        'await x, "../tmp", "https://a.b/home"',
        "masslib.plot.confusion(matrix, ax=left)",
        "masslib.plot.history(history)",
    ]
    notebook.cells[3].source = "\n".join(lines)
    assert problems(write(notebook, tmp_path / "01_good.ipynb")) == []


@pytest.mark.parametrize("name", ["1_tour.ipynb", "tour.ipynb", "01-tour.ipynb", "01_Tour.ipynb"])
def test_file_names_have_a_number_and_a_topic(name, tmp_path):
    (problem,) = problems(write(good_notebook(), tmp_path / name))
    assert problem.startswith(f"{name}: the file name is not like 02_topic.ipynb")


def test_a_file_that_is_no_notebook_is_a_problem(tmp_path):
    path = tmp_path / "01_cut.ipynb"
    path.write_text('{"cells": [')
    assert "01_cut.ipynb: not a notebook" in problems(path)[0]


def test_the_index_lists_titles_summaries_and_neighbours(tmp_path):
    folder = tmp_path / "notebooks"
    for name in ("01_b", "00_a", "02_c"):
        write(good_notebook(), folder / f"{name}.ipynb")
    rows = index_page(folder).splitlines()[-3:]
    assert [row.split(" | ")[0] for row in rows] == [f"| [{n}]({n}.ipynb)" for n in ("00_a", "01_b", "02_c")]
    assert rows[1].endswith(r"| A title | A cell \| that adds. | [00_a](00_a.ipynb) | [02_c](02_c.ipynb) |")


def test_check_fails_until_the_index_is_written(tmp_path, capsys):
    write(good_notebook(), tmp_path / "notebooks" / "01_good.ipynb")
    assert notebooks.main(["check"], tmp_path) == 1
    told = capsys.readouterr().err
    assert told == "notebooks/README.md does not tell what the notebooks are; run `make render`\n"
    assert notebooks.main(["index"], tmp_path) == 0
    assert notebooks.main(["check"], tmp_path) == 0


def test_nbval_reads_every_pattern():
    assert len(get_sanitize_patterns(SANITIZE)) == SANITIZE.count("\nregex:")


CLEANED = {
    "a\x08\x08bc\x08": "bc",
    "\x1b[1m10/10\x1b[0m ━━━━ \x1b[1m12s\x1b[0m 28ms/step - loss: 0.5  \n": "10/10 ━━━━ - loss: 0.5\n",
    "10/10 [====] - 1:05 2s/step - loss: 0.5": "10/10 [====] - loss: 0.5",
    "100%|####| 10/10 [00:01<00:00, 9.80it/s]": "100%|####| 10/10",
    "<object at 0x7f3e2c1b5d30>": "<object at 0x...>",
    "saved '/srv/me/masslib/build/m.keras'": "saved 'm.keras'",
    "saved file:///home/me/build/m.keras": "saved m.keras",
    r"C:\Users\me\build\m.keras": "m.keras",
    "/tmp/tmpab12_xyz/model": "model",
    # and what must stay
    "3/4 of ../build/m.keras, n/a, 12.5 ms, 3s": "3/4 of ../build/m.keras, n/a, 12.5 ms, 3s",
    "<a href='https://keras.io/a/b'>b</a> /job:0": "<a href='https://keras.io/a/b'>b</a> /job:0",
    "data:image/jpeg;base64,/9j/4AAQ+/ab/cd": "data:image/jpeg;base64,/9j/4AAQ+/ab/cd",
}


@pytest.mark.parametrize("text", CLEANED)
def test_cleaning_removes_the_machine_and_the_moment_once_and_for_all(text):
    notebook = good_notebook()
    notebook.cells[3].outputs = [
        new_output("stream", text=text),
        new_output("display_data", {"text/html": text, "image/svg+xml": text}),
    ]
    for _ in range(2):
        clean(notebook, get_sanitize_patterns(SANITIZE))
        stream, display = notebook.cells[3].outputs
        assert stream.text == display.data["text/html"] == CLEANED[text]
        assert display.data["image/svg+xml"] == text


def test_cleaning_normalizes_ids_counts_and_metadata():
    def cleaned():
        notebook = good_notebook()
        notebook.metadata.update(widgets={"state": {}}, language_info={"name": "python", "version": "3.11.7"})
        first, second = notebook.cells[3], new_code_cell("2", execution_count=9)
        notebook.cells.append(second)
        first.metadata.update(execution={"shell": "2026-11-22"}, collapsed=True)
        first.outputs += [new_output("stream", name="stderr", text="oh")]
        for cell in notebook.cells[1:]:
            del cell["id"]
        notebook.cells[0].id = "kept"
        clean(notebook, [])
        return notebook

    notebook = cleaned()
    assert notebook == cleaned()
    nbformat.validate(notebook)
    assert notebook.cells[0].id == "kept"
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert "version" not in notebook.metadata.language_info
    assert notebook.cells[3].metadata == {"tags": ["nbval-check-output"]}
    assert [output.output_type for output in notebook.cells[3].outputs] == ["execute_result"]
    assert notebook.cells[-1].execution_count == 2


def test_cleaning_leaves_a_line_in_place_of_an_output_that_is_only_shown():
    notebook = good_notebook()
    notebook.metadata.masslib = {"data": ["sms_spam"]}
    notebook.cells[3].metadata.tags = ["show-only"]
    clean(notebook, [])
    assert [output.text for output in notebook.cells[3].outputs] == ["run this cell to see it\n"]
    assert notebook.metadata.masslib == {"data": ["sms_spam"]}


def test_a_notebook_without_its_data_or_extras_is_left_out_with_the_reason(checkout, capsys, monkeypatch):
    monkeypatch.setenv("MASSLIB_DATA", str(checkout))
    monkeypatch.setenv("KERAS_HOME", str(checkout))
    notebook = good_notebook()
    notebook.metadata.masslib = {"data": ["digits", "sms_spam"], "extras": ["notebooks"]}
    path = write(notebook, checkout / "notebooks" / "01_good.ipynb")
    before = path.read_bytes()
    assert notebooks.main(["render"], checkout) == 0
    assert "left out: 01_good.ipynb needs the data sms_spam: see docs/datasets.md\n" in capsys.readouterr().out
    assert path.read_bytes() == before


@pytest.mark.parametrize("needs", [{"data": ["sms"]}, {"extras": ["tf"]}, {"packages": []}])
def test_needs_that_do_not_exist_are_refused(needs, checkout, capsys):
    notebook = good_notebook()
    notebook.metadata.masslib = needs
    write(notebook, checkout / "notebooks" / "01_good.ipynb")
    assert notebooks.main(["run"], checkout) == 1
    assert "01_good.ipynb needs" in capsys.readouterr().err


@pytest.mark.slow
def test_rendering_runs_in_the_folder_of_the_notebook_and_gives_the_same_bytes_twice(checkout, capfd):
    notebook = good_notebook()
    notebook.cells[3].source = (
        "import os, sys\nfrom tqdm.auto import tqdm\n"
        "print('one\\rtwo', list(tqdm([1])), object())\n"
        "os.write(2, b'from C++'); print('oh', file=sys.stderr)\n"
        "os.path.basename(os.getcwd()), os.environ['PYTHONHASHSEED']"
    )
    path = write(notebook, checkout / "notebooks" / "01_good.ipynb")
    assert notebooks.main(["render"], checkout) == 0
    first = path.read_bytes()
    stream, result = nbformat.read(path, as_version=4).cells[3].outputs
    assert stream.text == "two [1] <object object at 0x...>\n"
    assert result.data["text/plain"] == "('notebooks', '0')"
    assert notebooks.main(["render", "01"], checkout) == 0
    assert path.read_bytes() == first
    assert notebooks.main(["check"], checkout) == 0
    shown = capfd.readouterr()
    assert "C++" not in shown.out + shown.err
    assert shown.out.count("01_good.ipynb") == 2


def test_a_notebook_that_fails_stays_as_it_was_and_names_its_cell(checkout, capsys):
    notebook = good_notebook()
    notebook.cells[3].source = "print('so far')\n1 / 0"
    path = write(notebook, checkout / "notebooks" / "01_bad.ipynb")
    before = path.read_bytes()
    for command in ("render", "run"):
        assert notebooks.main([command], checkout) == 1
        shown = capsys.readouterr()
        assert shown.out.startswith("01_bad.ipynb")
        assert "01_bad.ipynb: cell 4 failed" in shown.err
        assert "ZeroDivisionError" in shown.err
        assert path.read_bytes() == before
    copy = nbformat.read(checkout / "build" / "notebooks" / "01_bad.ipynb", as_version=4)
    assert copy.cells[3].outputs[0].text == "so far\n"


def test_running_leaves_copies_and_prints_the_comparison_of_this_run(checkout, capsys):
    notebook = good_notebook()
    path = write(notebook, checkout / "notebooks" / "01_good.ipynb")
    (checkout / "build").mkdir()
    (checkout / "build" / "comparison.txt").write_text("of an older run")
    assert notebooks.main(["run"], checkout) == 0
    assert "older" not in capsys.readouterr().out
    notebook.cells[3].source = "import pathlib\npathlib.Path('../build/comparison.txt').write_text('float  100')"
    before = write(notebook, path).read_bytes()
    write(good_notebook(), checkout / "notebooks" / "02_other.ipynb")
    assert notebooks.main(["run", "01"], checkout) == 0
    assert capsys.readouterr().out.endswith("build/comparison.txt:\nfloat  100\n")
    assert path.read_bytes() == before
    assert [copy.name for copy in (checkout / "build" / "notebooks").glob("*.ipynb")] == ["01_good.ipynb"]


def test_unknown_names_are_refused_with_the_known_ones(checkout, capsys):
    write(good_notebook(), checkout / "notebooks" / "01_good.ipynb")
    assert notebooks.main(["render", "07"], checkout) == 1
    assert "no notebook begins with '07'; there is 01_good" in capsys.readouterr().err


def test_solutions_are_rendered_when_they_are_named(checkout):
    for place in ("01_good.ipynb", "02_other.ipynb", "solutions/01_good.ipynb"):
        (checkout / "notebooks" / "solutions").mkdir(parents=True, exist_ok=True)
        write(good_notebook(), checkout / "notebooks" / place)
    found = {
        names: [path.relative_to(checkout / "notebooks").as_posix() for path in notebooks.select(checkout, names)]
        for names in ((), ("01",), ("solutions/01", "notebooks/02_other.ipynb"), ("solutions/",))
    }
    assert list(found.values()) == [
        ["01_good.ipynb", "02_other.ipynb"],
        ["01_good.ipynb"],
        ["02_other.ipynb", "solutions/01_good.ipynb"],
        ["solutions/01_good.ipynb"],
    ]
