"""The table of the zoo: `PYTHONPATH=tests python -m zoo.page [NETWORK ...]` runs rows and writes them to its page."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import keras

from masslib._util.files import replacing
from zoo import NETWORKS
from zoo.rooms import UNFIT, row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "zoo.md"
COLUMNS = ("fit", "arrays", "bridge", "Prune", "int8", "dynamic", "QAT", "TFLite", "SavedModel")

_HEAD = """# Networks of others

Small networks after the examples of [keras.io](https://keras.io/examples/), with random rows, and what every room of
masslib does with them. `PYTHONPATH=.:tests python -m zoo.page NAME ...` runs the networks named, or all, and writes
their rows here; those of `hub_...` need the extra `hub`. A row with a cell of `crash`, `obscure` (an error in words of
the insides of Keras or TensorFlow) or `wrong` (numbers that differ by more than below) is printed, not written.
`tests/test_zoo.py` runs the rows: four of them in `make test-slow`, all in `make test-all`. The networks are tiny, of
width 8 to 16 and two blocks, with 24 rows: whether a room takes them is what is tried, not how well they learn.

- `fit`, `arrays`: two epochs from a `tf.data.Dataset`, one from arrays, give the losses and metrics of `model.fit` from
  the same weights, to 1e-6 (`fused=False`).
- `bridge`: the tf_keras model answers the rows as the Keras model does, to 1e-4 of the largest answer.
- `Prune`, `QAT`: two steps of `Prune(0.5)` and `QuantizeAware()`. The layers that `diagnose` names have the zeros, and
  the int8 file answers as the trained model does.
- `int8`, `dynamic`, `TFLite`, `SavedModel`: the loaded file gives the structure and the answers of the model: float32
  to 1e-4 of the largest, int8 to 5 % and dynamic to 3 % in the mean.

`one row`: TFLite can hold the network for a fixed number of rows only, and the error of the first try says
`pass batch_size=1`. `nothing to prune`: `diagnose` says so of every layer. `told`: refused before any file appears, in
the words below the table; `diagnose(model, tflite=True)` names the layers that TFLite has no operator for before
anything is trained. GANs and other networks of several parts are trained whole; what is compressed and exported is the
part that is deployed.
"""


def rows() -> dict[str, dict[str, str]]:
    """Read the cells of the committed table."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines() if PAGE.exists() else ():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == len(COLUMNS) + 1 and cells[0] not in ("network", "---"):
            found[cells[0]] = dict(zip(COLUMNS, cells[1:], strict=True))
    return found


def _notes() -> dict[str, list[str]]:
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    return {
        name: lines.rstrip().splitlines() for name, lines in re.findall(r"^- `(\w+)`:\n((?:  - .*\n?)+)", text, re.M)
    }


def _sentence(told: str) -> str:
    return "  - " + " ".join(told.removeprefix("told: ").split())[:400]


def write(names: list[str]) -> None:
    """Run networks, and put each row into the page as soon as it is there, unless a cell is unfit."""
    for name in names or list(NETWORKS):
        keras.backend.clear_session()  # names of layers are numbered from the start
        start = time.process_time()
        cells, told = row(NETWORKS[name])
        held_back = UNFIT.intersection(cells.values())
        word = "held back" if held_back else "written"
        print(f"{name}: {time.process_time() - start:.0f} s of CPU, {word}", cells, flush=True)
        print(*(f"  {sentence}" for sentence in told), sep="\n", flush=True)
        if not held_back:
            _put(name, cells, told)


def _put(name: str, cells: dict[str, str], told: list[str]) -> None:
    table, notes = rows() | {name: cells}, _notes() | {name: list(dict.fromkeys(map(_sentence, told)))}
    lines = [_HEAD, f"| network | {' | '.join(COLUMNS)} |", "| --- " * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {known} | {' | '.join(table[known][c] for c in COLUMNS)} |" for known in sorted(table)]
    lines += ["", "What is told:", ""]
    for known in sorted(table):
        lines += [f"- `{known}`:", *notes[known]] if notes.get(known) else []
    with replacing(PAGE) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1:])
