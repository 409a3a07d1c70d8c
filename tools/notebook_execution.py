"""Run a notebook as JupyterLab and nbval do, and make what it leaves the same on every machine."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
CELL_SECONDS = 420

ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "PYTHONHASHSEED": "0",
    # What `import masslib` sets, for notebooks that import Keras before it
    "TF_ENABLE_ONEDNN_OPTS": "1",
    # tqdm's bars are widgets, whose state is not committed: show none within the first day.
    # (tqdm.notebook overrides TQDM_DISABLE.)
    "TQDM_DELAY": "86400",
}
"""What every kernel gets, here and under nbval."""

_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}
_KEPT_CELL_METADATA = ("jupyter", "mystnb", "tags")
SHOW_ONLY = "show-only"
"""The tag of a cell whose output is not committed, such as photos of a data set with a licence of its own."""
SHOW_ONLY_OUTPUT = "run this cell to see it\n"
_WIDGET = "application/vnd.jupyter.widget-view+json"


class NotebookError(RuntimeError):
    """A notebook that did not run to its end; the message holds the cell and its traceback."""


def execute(notebook: NotebookNode, folder: Path, log: Path) -> None:
    """Run all cells in place in a fresh kernel.

    Args:
        notebook: The notebook; after a failure it holds the outputs up to there.
        folder: The working directory of the kernel.
        log: The file for what the kernel process prints outside its cells, such as TensorFlow's C++ log.

    Raises:
        NotebookError: If a cell raises, takes longer than `CELL_SECONDS` or ends the kernel.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    os.environ.update(ENVIRONMENT)
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        # Else the kernel copies the C++ log lines into the cells' stderr, at random places.
        extra_arguments=["--IPKernelApp.capture_fd_output=False"],
        coalesce_streams=True,
        record_timing=False,
        store_widget_state=False,
    )
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as stream:
        try:
            client.execute(stdout=stream, stderr=stream)
        except CellExecutionError as error:
            raise NotebookError(f"{_failing_cell(notebook)} failed:\n{error}") from None
        except CellTimeoutError as error:
            raise NotebookError(str(error)) from None
        except DeadKernelError:
            raise NotebookError(f"the kernel died; its last words are in {log}") from None


def _failing_cell(notebook: NotebookNode) -> str:
    for number, cell in enumerate(notebook.cells, 1):
        if any(output.output_type == "error" for output in cell.get("outputs", [])):
            return f"cell {number}"
    return "a cell"


def clean(notebook: NotebookNode, patterns: list[tuple[str, str]]) -> None:
    """Strip an executed notebook in place of what depends on the machine, the moment and the editor.

    Args:
        notebook: A notebook whose cells all ran, in order, in one kernel.
        patterns: Regular expressions and their replacements, for the text of the outputs.
    """
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    own = {"masslib": notebook.metadata["masslib"]} if "masslib" in notebook.metadata else {}
    notebook.metadata = nbformat.from_dict(_METADATA | own)
    _name_cells(notebook.cells)
    for cell in notebook.cells:
        kept = {key: cell.metadata[key] for key in _KEPT_CELL_METADATA if key in cell.metadata}
        cell.metadata = nbformat.from_dict(kept)
    for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.execution_count = count
        cell.outputs = [cleaned for output in cell.outputs if (cleaned := _clean_output(output, patterns))]
        if SHOW_ONLY in cell.metadata.get("tags", []):
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=SHOW_ONLY_OUTPUT)]
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count


def _name_cells(cells: list[NotebookNode]) -> None:
    """Keep the ids that are there and unique; name the other cells by their content, not by chance."""
    taken = set()
    for number, cell in enumerate(cells):
        if cell.get("id") in taken | {None}:
            cell.id = hashlib.sha256(f"{number} {cell.source}".encode()).hexdigest()[:8]
        taken.add(cell.id)


def _clean_output(output: NotebookNode, patterns: list[tuple[str, str]]) -> NotebookNode | None:
    if output.output_type == "stream":
        output.text = _substitute(output.text, patterns)
        return None if output.name == "stderr" or not output.text else output
    if "data" in output:
        output.data.pop(_WIDGET, None)
        for kind, content in output.data.items():
            if kind.startswith("text/"):
                output.data[kind] = _substitute(content, patterns)
    return output


def _substitute(text: str, patterns: list[tuple[str, str]]) -> str:
    for pattern, replacement in patterns:
        text = re.sub(pattern, replacement, text)
    return text
