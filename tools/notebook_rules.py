"""What every notebook of this repository must be, checked without a kernel; and the index of them all."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from notebook_execution import SHOW_ONLY, SHOW_ONLY_OUTPUT

HEADINGS = ("What you will learn", "Setup", "What to remember", "Try it", "Next")
MAX_LINES = 20
MAX_DEFINITIONS = 6
MAX_OUTPUT_BYTES = 400_000

_CHECKED = "nbval-check-output"
_MAGIC = "%matplotlib inline"
_RENDER = "run `make render`"
_EDIT = f"change it and {_RENDER}"
_HOME = re.compile(r"(?<![\w.~})-])/(?:home|root|tmp|Users|work)\b|(?<!\w)C:\\")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

Found = Iterator[tuple[int | None, str]]
"""Pairs of a cell's number, counted from 1 over all cells (None: the whole notebook), and what is wrong."""


def notebook_paths(folder: Path) -> list[Path]:
    """List the notebooks of a folder in the order in which they are read and run."""
    return sorted(folder.glob("*.ipynb"))


def problems(path: Path) -> list[str]:
    """Tell everything that is wrong with a notebook, each with its cell and what mends it.

    Args:
        path: The notebook file. Nothing of it is run.

    Returns:
        One sentence per fault, such as "02_train.ipynb, cell 4: output on stderr; run `make render`".
    """
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        return [f"{path.name}: not a notebook ({str(error).splitlines()[0]}); restore it and {_RENDER}"]
    found = [(None, wrong) for wrong in _file_name(path)]
    for rule in _RULES:
        found += rule(notebook)
    return [f"{path.name}{f', cell {number}' if number else ''}: {wrong}" for number, wrong in found]


def _file_name(path: Path) -> list[str]:
    if re.fullmatch(r"\d\d_[a-z0-9_]+\.ipynb", path.name):
        return []
    return [f"the file name is not like 02_topic.ipynb; rename it and {_RENDER}"]


def _kernel(notebook: NotebookNode) -> Found:
    name = notebook.metadata.get("kernelspec", {}).get("name")
    if name != "python3":
        yield None, f"the kernel is {name!r}, not 'python3'; {_RENDER}"


def _title(notebook: NotebookNode) -> Found:
    titled = [number for number, level, _ in _headings(notebook) if level == 1]
    if titled != [1]:
        where = ", ".join(map(str, titled)) or "none"
        yield None, f"cells with a first-level heading: {where}; only cell 1 has one, once; {_EDIT}"


def _sections(notebook: NotebookNode) -> Found:
    present = {text for _, level, text in _headings(notebook) if level == 2}
    for heading in HEADINGS:
        if heading not in present:
            yield None, f"the heading '## {heading}' is missing; {_EDIT}"


def _python(notebook: NotebookNode) -> Found:
    definitions = []
    for number, cell in _code(notebook):
        try:
            tree = _parse(cell.source)
        except SyntaxError as error:
            line = (error.text or "").strip()
            yield number, f"not plain Python, the only magic is {_MAGIC}: {line!r}; {_EDIT}"
            continue
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        definitions += [number for node in tree.body if isinstance(node, kinds)]
    for number in definitions[MAX_DEFINITIONS:]:
        yield number, f"more than {MAX_DEFINITIONS} functions and classes, the others belong in masslib; {_EDIT}"


def _length(notebook: NotebookNode) -> Found:
    for number, cell in _code(notebook):
        lines = len(cell.source.splitlines())
        if lines > MAX_LINES:
            yield number, f"{lines} lines, at most {MAX_LINES} are allowed; {_EDIT}"


def _trailing_space(notebook: NotebookNode) -> Found:
    for number, cell in enumerate(notebook.cells, 1):
        if cell.source != cell.source.rstrip():
            yield number, f"ends in white space; {_EDIT}"


def _machine_paths(notebook: NotebookNode) -> Found:
    for number, cell in enumerate(notebook.cells, 1):
        for place, text in [("source", cell.source), *(("output", text) for text in _texts(cell))]:
            if match := _HOME.search(_COLOUR.sub("", text)):
                mend = _EDIT if place == "source" else _RENDER
                yield number, f"{match.group()} in the {place}: a path of one machine; {mend}"


def _counts(notebook: NotebookNode) -> Found:
    for expected, (number, cell) in enumerate(_code(notebook), 1):
        if cell.execution_count != expected:
            yield number, f"execution count {cell.execution_count}, not {expected}; {_RENDER}"


def _outputs(notebook: NotebookNode) -> Found:
    for number, cell in _code(notebook):
        for output in cell.outputs:
            if output.get("name") == "stderr":
                yield number, f"output on stderr; {_RENDER}"
            if output.output_type == "error":
                yield number, f"its output is the error {output.ename}; mend the cell and {_RENDER}"
            size = len(json.dumps(output).encode())
            if size > MAX_OUTPUT_BYTES:
                yield number, f"an output of {size:,} bytes, at most {MAX_OUTPUT_BYTES:,}; {_EDIT}"


def _checked(notebook: NotebookNode) -> Found:
    checked = [(n, cell) for n, cell in _code(notebook) if _CHECKED in cell.metadata.get("tags", [])]
    if not checked:
        yield None, f"no code cell has the tag {_CHECKED}, so its outputs are untested; {_EDIT}"
    for number, cell in checked:
        # nbval runs cells without history, and IPython looks for the semicolon there.
        if cell.source.endswith(";"):
            yield number, f"ends in `;`, which hides nothing from nbval: assign the value to `_`; {_EDIT}"


def _show_only(notebook: NotebookNode) -> Found:
    for number, cell in _code(notebook):
        tags = cell.metadata.get("tags", [])
        if SHOW_ONLY in tags and [output.get("text") for output in cell.outputs] != [SHOW_ONLY_OUTPUT]:
            yield number, f"has the tag {SHOW_ONLY}, but its output is there; {_RENDER}"


def _figures(notebook: NotebookNode) -> Found:
    for number, cell in _code(notebook):
        try:
            statements = _parse(cell.source).body
        except SyntaxError:  # which is the finding of another rule
            continue
        for statement in statements[:-1]:
            call = statement.value if isinstance(statement, ast.Expr) else None
            if not isinstance(call, ast.Call) or any(word.arg == "ax" for word in call.keywords):
                continue
            if (name := ast.unparse(call.func)).startswith("masslib.plot."):
                yield number, f"the figure of {name} is not shown, as other lines come after it; {_EDIT}"


_RULES = (
    _kernel,
    _title,
    _sections,
    _python,
    _length,
    _trailing_space,
    _machine_paths,
    _counts,
    _outputs,
    _checked,
    _show_only,
    _figures,
)


def _code(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    return ((n, cell) for n, cell in enumerate(notebook.cells, 1) if cell.cell_type == "code")


def _parse(source: str) -> ast.Module:
    """Parse a cell; whatever else IPython understands, `!` and `?` included, is a `SyntaxError`."""
    lines = ["" if line.strip() == _MAGIC else line for line in source.splitlines()]
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    return compile("\n".join(lines), "cell", "exec", flags)


def _texts(cell: NotebookNode) -> Iterator[str]:
    for output in cell.get("outputs", []):
        yield output.get("text", "")
        yield from (text for kind, text in output.get("data", {}).items() if kind.startswith("text/"))


def _headings(notebook: NotebookNode) -> Iterator[tuple[int, int, str]]:
    """Yield (cell number, level, text) of the Markdown headings outside fenced code."""
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type != "markdown":
            continue
        prose = re.sub(r"^(```|~~~).*?^\1", "", cell.source, flags=re.MULTILINE | re.DOTALL)
        for marks, text in re.findall(r"^(#{1,6}) +(.*?)(?: +#+)? *$", prose, flags=re.MULTILINE):
            yield number, len(marks), text


def index_page(folder: Path) -> str:
    """Write the index of a folder of notebooks: title, first paragraph, neighbours."""
    paths = notebook_paths(folder)
    links = [f"[{path.stem}]({path.name})" for path in paths]
    rows = [
        f"| {link} | {_title_and_summary(path)} | {before} | {after} |"
        for path, link, before, after in zip(paths, links, ["", *links], [*links[1:], ""], strict=False)
    ]
    head = ["| Notebook | Title | What it is about | Previous | Next |", "| --- | --- | --- | --- | --- |"]
    note = "<!-- Made by `make render` from the first cell of each notebook: change it there. -->"
    return "\n".join(["# Notebooks", "", note, "", *head, *rows, ""])


def _title_and_summary(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    title, _, rest = (cells[0].source if cells else "").partition("\n")
    # Every notebook opens with what it needs; what it is about comes after that.
    about = (text for text in re.split(r"\n\s*\n", rest.strip()) if not text.startswith(("**Needs**", "#")))
    columns = title.lstrip("# "), next(about, "")
    return " | ".join(" ".join(text.split()).replace("|", "\\|") for text in columns)


def index_problems(folder: Path) -> list[str]:
    """Tell whether the index page of a folder of notebooks is what `index_page` would write."""
    page = folder / "README.md"
    if page.is_file() and page.read_text(encoding="utf-8") == index_page(folder):
        return []
    return [f"{folder.name}/README.md does not tell what the notebooks are; run `make render`"]
