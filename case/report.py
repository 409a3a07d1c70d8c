"""What the case found: lines while it runs, and in the end a report, as text, as one HTML file and as JSON."""

from __future__ import annotations

import html
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from masslib._util.files import replacing
from masslib.evaluation import Evaluation

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 66rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .4rem .8rem; vertical-align: top }
tr { border-bottom: 1px solid #8886 } .n { text-align: right; white-space: nowrap }
"""


@dataclass
class Stage:
    """One stage of the case.

    Attributes:
        name: Of the stage.
        seconds: What it took.
        bytes: Of what it wrote for the next one; None if nothing.
        figures: Numbers for programs.
        found: Lines for people.
    """

    name: str
    seconds: float = 0.0
    bytes: int | None = None
    figures: dict[str, float] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)

    def judged(self, evaluation: Evaluation) -> None:
        """Keep the accuracy on test photos."""
        low, high = evaluation.accuracy_interval
        self.figures |= {"accuracy": evaluation.accuracy, "low": low, "high": high}

    @property
    def accuracy(self) -> str:
        """The accuracy for people, with its 95 % interval; empty if nothing was judged."""
        return "{accuracy:.2%} [{low:.2%}, {high:.2%}]".format(**self.figures) if "accuracy" in self.figures else ""

    @property
    def size(self) -> str:
        """The bytes for people."""
        if self.bytes is None:
            return ""
        return f"{self.bytes / 1e6:.1f} MB" if self.bytes >= 1e6 else f"{self.bytes / 1e3:.0f} kB"


class Report:
    """Stages with what each of them took and found.

    Args:
        title: Of the page.
        about: What the photos and the network are.
    """

    def __init__(self, title: str, about: str):
        self.title, self.about = title, about
        self.stages: list[Stage] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time a stage and print a line about it."""
        stage, start = Stage(name), time.perf_counter()
        print(f"[{len(self.stages) + 1}] {name} ...", end="", flush=True)
        yield stage
        stage.seconds = time.perf_counter() - start
        self.stages.append(stage)
        told = ", ".join(part for part in (f"{stage.seconds:.0f} s", stage.size, stage.accuracy) if part)
        print(f" {told}", flush=True)

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(stage.seconds for stage in self.stages)

    def text(self) -> str:
        """The report in plain lines."""
        lines = [self.title, self.about]
        for stage in self.stages:
            told = (f"{stage.seconds:.0f} s", stage.size, stage.accuracy and f"test photos right: {stage.accuracy}")
            lines += ["", f"{stage.name}: {', '.join(filter(None, told))}", *(f"  {line}" for line in stage.found)]
        return "\n".join([*lines, "", f"{self.seconds:.0f} s in all", ""])

    def page(self) -> str:
        """The report as HTML, without scripts and without anything from elsewhere."""
        rows = "".join(
            f'<tr><th>{html.escape(stage.name)}</th><td class="n">{stage.seconds:.0f}</td>'
            f'<td class="n">{stage.size}</td>'
            f"<td>{stage.accuracy}</td><td>{'<br>'.join(map(html.escape, stage.found))}</td></tr>\n"
            for stage in self.stages
        )
        head = f'<meta charset="utf-8"><title>{html.escape(self.title)}</title><style>{_STYLE}</style>'
        names = '<tr><th>stage</th><th class="n">seconds</th><th class="n">bytes</th><th>test photos right</th>'
        table = f"<table>\n{names}<th>found</th></tr>\n{rows}</table>"
        body = f"<h1>{html.escape(self.title)}</h1><p>{html.escape(self.about)}</p>{table}"
        return f'<!doctype html><html lang="en">{head}{body}<p>{self.seconds:.0f} s in all</p></html>\n'

    def write(self, folder: Path) -> None:
        """Write `report.txt`, `report.html` and `report.json`."""
        facts = {"about": self.about, "seconds": self.seconds, "stages": [asdict(stage) for stage in self.stages]}
        files = {"report.txt": self.text(), "report.html": self.page(), "report.json": json.dumps(facts, indent=1)}
        for name, content in files.items():
            with replacing(folder / name) as temporary:
                temporary.write_text(content, encoding="utf-8")
