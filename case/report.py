"""What the case found: lines while it runs, and in the end a report for people, as text and as one HTML file."""

from __future__ import annotations

import html
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from masslib._util.files import replacing

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .4rem .8rem; vertical-align: top }
tr { border-bottom: 1px solid #8886 } td:nth-child(2) { text-align: right; white-space: nowrap }
"""


class Report:
    """Stages with what each of them took and found.

    Args:
        title: Of the page.
        told: What the photos are.
    """

    def __init__(self, title: str, told: str):
        self.title, self.told = title, told
        self.stages: list[tuple[str, float, list[str]]] = []
        self._start = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[list[str]]:
        """Time a stage; what is appended to the list is what it found."""
        print(f"[{len(self.stages) + 1}] {name} ...", end="", flush=True)
        start, found = time.perf_counter(), []
        yield found
        took = time.perf_counter() - start
        self.stages.append((name, took, found))
        print(f" {took:.0f} s", *(f"      {line}" for line in found), sep="\n", flush=True)

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(took for _, took, _ in self.stages)

    def text(self) -> str:
        """The report in plain lines."""
        lines = [self.title, self.told, ""]
        for name, took, found in self.stages:
            lines += [f"{name} ({took:.0f} s)", *(f"  {line}" for line in found)]
        return "\n".join([*lines, "", f"{self.seconds:.0f} s in all", ""])

    def page(self) -> str:
        """The report as HTML, without scripts and without anything from elsewhere."""
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{took:.0f} s</td><td>{'<br>'.join(map(html.escape, found))}</td></tr>"
            for name, took, found in self.stages
        )
        head = f'<meta charset="utf-8"><title>{html.escape(self.title)}</title><style>{_STYLE}</style>'
        body = f"<h1>{html.escape(self.title)}</h1><p>{html.escape(self.told)}</p><table>{rows}</table>"
        return f'<!doctype html><html lang="en">{head}{body}<p>{self.seconds:.0f} s in all</p></html>\n'

    def write(self, folder: Path) -> None:
        """Write `report.txt` and `report.html`."""
        for name, content in (("report.txt", self.text()), ("report.html", self.page())):
            with replacing(folder / name) as temporary:
                temporary.write_text(content, encoding="utf-8")
