"""Write docs/api.md, the reference, from the docstrings: `python tools/api_page.py`.

The documentation generators at hand make web sites; this page is read where the code is, so `inspect` is enough.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import masslib
from masslib._util.files import replacing

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"
SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Warns", "Example", "Examples", "References")
# Used by other modules of masslib, not by those who use masslib
_INTERNAL = ("checkpoint", "graph")


def main() -> int:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    with replacing(PAGE) as temporary:
        temporary.write_text(page(), encoding="utf-8")
    return 0


def page() -> str:
    """Render the public names of all public modules as Markdown."""
    modules = public_modules()
    lines = ["# Reference", "", "Made from the docstrings by `make docs`.", ""]
    lines += [f"- [`{module.__name__}`](#{_anchor(module.__name__)}): {_summary(module)}" for module in modules]
    described: dict[object, str] = {}
    for module in modules:
        lines += ["", f"## {module.__name__}", "", *_rendered(inspect.getdoc(module) or "")]
        for name, value in public_names(module):
            full = f"{module.__name__.removeprefix('masslib.')}.{name}"
            first = described.setdefault(value, full)
            same = [f"### {full}", "", f"The same as [`{first}`](#{_anchor(first)})."]
            lines += ["", *(_entry(full, value, level=3) if first == full else same)]
    return "\n".join(lines) + "\n"


def public_modules() -> list[ModuleType]:
    """Import the modules that stand at the top level of masslib."""
    values = (getattr(masslib, name) for name in masslib.__all__ if name not in _INTERNAL)
    return [value for value in values if inspect.ismodule(value)]


def public_names(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Yield the functions and classes of `__all__`, or those that the module itself defines."""
    names = getattr(module, "__all__", None)
    if names is None:
        names = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    for name in names:
        value = getattr(module, name)
        if not name.startswith("_") and (inspect.isfunction(value) or inspect.isclass(value)):
            yield name, value


def public_methods(cls: type) -> Iterator[tuple[str, object]]:
    """Yield the methods and properties that a class defines with a docstring."""
    for name, value in vars(cls).items():
        bound = getattr(cls, name)
        if not name.startswith("_") and (isinstance(value, property) or inspect.isroutine(bound)) and bound.__doc__:
            yield name, value if isinstance(value, property) else bound


def sections(docstring: str) -> dict[str, list[str]]:
    """Split a Google-style docstring into its sections, dedented; the text before the first one is ""."""
    found: dict[str, list[str]] = {"": []}
    lines = found[""]
    for line in docstring.splitlines():
        heading = re.fullmatch(r"(\w+):", line)
        if heading and heading[1] in SECTIONS:
            lines = found.setdefault(heading[1], [])
        else:
            lines.append(line)
    return {name: inspect.cleandoc("\n" + "\n".join(lines)).splitlines() for name, lines in found.items()}


def _entry(name: str, value: object, level: int) -> list[str]:
    lines = [f"{'#' * level} {name}", ""]
    if not isinstance(value, property):
        lines += ["```python", f"{name.rpartition('.')[2]}{_signature(value)}", "```", ""]
    lines += _rendered(inspect.getdoc(value) or "")
    if inspect.isclass(value):
        for method, function in public_methods(value):
            lines += ["", *_entry(f"{name}.{method}", function, level + 1)]
    return lines


def _signature(value: object) -> str:
    try:
        signature = inspect.signature(value)
    except ValueError:  # classes of the standard library that are written in C have none
        return "(...)"
    text = _plain(str(signature))
    if len(text) <= 90:
        return text
    arguments, kinds = [], inspect.Parameter
    parameters = list(signature.parameters.values())
    for before, each in zip([None, *parameters], parameters, strict=False):
        if each.kind is kinds.KEYWORD_ONLY and (before is None or before.kind is kinds.POSITIONAL_OR_KEYWORD):
            arguments.append("*")
        arguments.append(_plain(str(each)))
    _, arrow, result = text.rpartition(") -> ")
    return "(\n" + "".join(f"    {each},\n" for each in arguments) + (f"){arrow[1:]}{result}" if arrow else ")")


def _plain(text: str) -> str:
    """Take out the addresses of default values, and the quotation marks of annotations given as text."""
    text = re.sub(r"<(?:function|class) '?([\w.]+)'?[^<>]*>", r"\1", text)
    text = re.sub(r"<([\w.]+) object at 0x[0-9a-f]+>", r"\1(...)", text)
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)


def _rendered(docstring: str) -> list[str]:
    parts = sections(docstring)
    lines = parts.pop("")
    for heading, body in parts.items():
        lines += ["", f"**{heading}**", ""]
        if heading.startswith("Example"):
            lines += ["```python", *body, "```"]
        elif heading in ("Args", "Attributes", "Raises", "Warns"):
            lines += [re.sub(r"^(\*{0,2}[\w.]+)( \([^)]*\))?: ", r"- `\1`\2: ", line) for line in body]
        else:
            lines += body
    return lines


def _summary(module: ModuleType) -> str:
    return (inspect.getdoc(module) or "").partition("\n\n")[0].replace("\n", " ")


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


if __name__ == "__main__":
    sys.exit(main())
