"""Run, render and check the notebooks: `python tools/notebooks.py --help`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat

from masslib._util.files import replacing
from notebook_execution import ROOT, NotebookError, clean, execute
from notebook_needs import missing
from notebook_rules import index_page, index_problems, notebook_paths, problems


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Run one sub-command over the notebooks of a checkout; 0 when all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("run", "execute in order; executed copies go to build/notebooks"),
        ("render", "execute in place and clean the outputs"),
        ("check", "look without running"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument(
            "names", nargs="*", help="such as 02_train, 02 or solutions/02; all chapters when none is given"
        )
    commands.add_parser("index", help="write notebooks/README.md")
    options = parser.parse_args(arguments)
    try:
        paths = select(root, getattr(options, "names", []))
        return {"run": run, "render": render, "check": check, "index": index}[options.command](root, paths)
    except (NotebookError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


def select(root: Path, names: Sequence[str]) -> list[Path]:
    """Find the notebooks that the names begin, or the solutions, such as `solutions/02`; all chapters without a name.

    Raises:
        ValueError: If a name begins no notebook.
    """
    chapters = notebook_paths(root / "notebooks")
    paths = {path.name: path for path in chapters}
    paths |= {f"solutions/{path.name}": path for path in notebook_paths(root / "notebooks" / "solutions")}
    starts = [name[name.index("solutions/") :] if "solutions/" in name else Path(name).name for name in names]
    for start in starts:
        if not any(name.startswith(start) for name in paths):
            known = ", ".join(path.stem for path in chapters) or "no notebook at all"
            raise ValueError(f"no notebook begins with {start!r}; there is {known}")
    return [path for name, path in paths.items() if name.startswith(tuple(starts))] if starts else chapters


def run(root: Path, paths: list[Path]) -> int:
    """Execute the notebooks, leave copies with their outputs, and print the comparison they made."""
    report = root / "build" / "comparison.txt"
    report.unlink(missing_ok=True)
    for path in _runnable(paths):
        copy = root / "build" / "notebooks" / path.name
        notebook = nbformat.read(path, as_version=4)
        try:
            _execute(root, path, notebook)
        finally:
            # The copy of a notebook that failed shows how far it came.
            _write(notebook, copy)
    if report.is_file():
        print(f"\n{report.relative_to(root)}:\n{report.read_text(encoding='utf-8').rstrip()}")
    return 0


def render(root: Path, paths: list[Path]) -> int:
    """Execute the notebooks in place; one that fails stays as it was."""
    from nbval.plugin import get_sanitize_patterns

    patterns = get_sanitize_patterns((root / "tests" / "nbval_sanitize.cfg").read_text(encoding="utf-8"))
    for path in _runnable(paths):
        notebook = nbformat.read(path, as_version=4)
        _execute(root, path, notebook)
        clean(notebook, patterns)
        _write(notebook, path)
    return index(root, paths)


def check(root: Path, paths: list[Path]) -> int:
    """Print what is wrong with the notebooks and their index."""
    wrong = [problem for path in paths for problem in problems(path)] + index_problems(root / "notebooks")
    print("\n".join(wrong) or f"{len(paths)} notebooks are in order", file=sys.stderr if wrong else sys.stdout)
    return 1 if wrong else 0


def index(root: Path, _: list[Path]) -> int:
    """Write the index page of all notebooks."""
    with replacing(root / "notebooks" / "README.md") as temporary:
        temporary.write_text(index_page(root / "notebooks"), encoding="utf-8")
    return 0


def _runnable(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if reason := missing(path):
            print(f"{path.name:<32}left out: {reason}", flush=True)
        else:
            yield path


def _execute(root: Path, path: Path, notebook: nbformat.NotebookNode) -> None:
    print(f"{path.name:<32}", end="", flush=True)
    start = time.perf_counter()
    try:
        execute(notebook, path.parent, root / "build" / "notebooks" / f"{path.stem}.log")
    except NotebookError as error:
        print(f"failed after {time.perf_counter() - start:.1f} s", flush=True)
        raise NotebookError(f"{path.name}: {error}") from None
    print(f"{time.perf_counter() - start:6.1f} s", flush=True)


def _write(notebook: nbformat.NotebookNode, path: Path) -> None:
    with replacing(path) as temporary:
        nbformat.write(notebook, temporary)


if __name__ == "__main__":
    sys.exit(main())
