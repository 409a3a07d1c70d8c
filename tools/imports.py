"""Check who imports whom in masslib: `python tools/imports.py`.

Rooms are the packages and modules directly under masslib/. Imports run down the floors of `FLOORS`, never in a circle,
and third-party packages come from the extras of `EXTRAS` only, so that what the light install promises stays light.
"""

from __future__ import annotations

import ast
import graphlib
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# From the ground up: a room imports from its own floor and from those below.
FLOORS = (
    ("_util", "plot"),
    ("data", "graph", "models"),
    ("bridge", "distribute", "checkpoint", "runtime", "formats"),
    ("train", "launcher"),
    ("compression", "export", "evaluation", "measure", "ensemble"),
    ("packaging",),
    ("selection", "serving"),
    ("doctor", "__main__"),
)
# What a room, or a module of one, needs besides the light install when it is imported, and inside of functions.
_TRAIN: tuple[tuple[str, ...], tuple[str, ...]] = (("train",), ("train",))
EXTRAS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "_util": ((), ()),
    "_util.kernels": ((), ("train",)),
    "_util.mapping": ((), ("train", "ray")),
    "_util.photos": ((), ("train",)),
    "_util.remote": ((), ("remote",)),
    "_util.quiet": _TRAIN,
    "_util.records": (("serve",), ("serve",)),
    "runtime": ((), ("train", "onnx", "openvino")),
    "data.records": (("train",), ("train", "serve")),
    "formats": ((), ("train",)),
    "measure": ((), ("train",)),
    "packaging._golden": ((), ()),
    "packaging.preprocessing": ((), ("serve",)),
    "packaging.reference": ((), ()),
    "packaging._verify": ((), ("train",)),
    "ensemble": ((), ("train",)),
    "ensemble.joined": _TRAIN,
    "export": (("train",), ("train", "onnx", "openvino", "int4", "serving", "estimators")),
    "serving": (("serve",), ("serve", "ray")),
    "launcher.on_ray": (("train", "ray"), ("train", "ray")),
    "launcher.on_spark": (("train", "spark"), ("train", "spark")),
    "__main__": ((), ()),
}


@dataclass(frozen=True)
class Import:
    """One import statement of a module.

    Attributes:
        module: The module of masslib that imports, such as `graph.nodes`.
        line: Where.
        target: What is imported: a module of masslib, written alike, or the name of another package.
        inside: Whether it is a module of masslib.
        at_top: Whether the statement stands outside of functions.
    """

    module: str
    line: int
    target: str
    inside: bool
    at_top: bool


def main() -> int:
    """Print what is wrong; the exit status is 1 if anything is."""
    found = problems(ROOT / "masslib", ROOT / "pyproject.toml")
    print("\n".join(found) or "imports: no circle, nothing upwards, nothing undeclared")
    return bool(found)


def problems(package: Path, project: Path) -> list[str]:
    """Return one line for every circle, every import against the order and every undeclared third-party import."""
    modules = {_name(path, package): path for path in sorted(package.rglob("*.py"))}
    imports = [found for name, path in modules.items() for found in _imports(name, path, modules)]
    inside = [found for found in imports if found.inside]
    outside = [found for found in imports if not found.inside]
    return [*_upwards(inside), *_circles(inside, modules), *_undeclared(outside, _extras(project))]


def _name(path: Path, package: Path) -> str:
    """`graph.nodes`; the package itself is the empty name."""
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(module: str, path: Path, modules: dict[str, Path]) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {node for function in ast.walk(tree) if isinstance(function, _FUNCTIONS) for node in ast.walk(function)}
    typing = {node for test in ast.walk(tree) if _is_for_types(test) for node in ast.walk(test)}
    for node in ast.walk(tree):
        if node in typing or not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for name in _targets(node):
            package, _, target = name.partition(".")
            inside = package == "masslib"
            while inside and target not in modules:  # a name in a module; the empty one is masslib itself
                target = target.rpartition(".")[0]
            yield Import(module, node.lineno, target if inside else package, inside, node not in inner)


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _targets(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [f"{node.module}.{alias.name}" for alias in node.names]


def _room(module: str) -> str:
    return module.partition(".")[0]


def _upwards(imports: list[Import]) -> Iterator[str]:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    for found in imports:
        here, there = _room(found.module), _room(found.target)
        if not here or not there:
            continue  # the package itself: its version, its lazy names
        if here not in floor or there not in floor:
            yield f"{found.module}:{found.line}: the room {here if here not in floor else there!r} is on no floor"
        elif floor[there] > floor[here]:
            yield f"{found.module}:{found.line}: {here} stands below {there}, which it imports"


def _circles(imports: list[Import], modules: dict[str, Path]) -> Iterator[str]:
    """Circles of rooms, and of modules within a room, wherever the imports stand."""
    for what, name in (("rooms", _room), ("modules", lambda module: module)):
        graph: dict[str, set[str]] = {name(module): set() for module in modules}
        for found in imports:
            # A package imports its own modules, which may name it again for a sibling.
            if name(found.module) != name(found.target) and found.module and found.target:
                graph[name(found.module)].add(name(found.target))
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            yield f"a circle of {what}: {' <- '.join(error.args[1])}"


def _extras(project: Path) -> dict[str, set[str]]:
    """Extra -> the canonical names of its distributions; the light install is the extra ""."""
    declared = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    groups = {"": declared["dependencies"], **declared["optional-dependencies"]}
    return {extra: {_canonical(re.split(r"[\[<>=!~; ]", line)[0]) for line in lines} for extra, lines in groups.items()}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _undeclared(imports: list[Import], extras: dict[str, set[str]]) -> Iterator[str]:
    distributions = packages_distributions()
    for found in imports:
        package = found.target
        if package in sys.stdlib_module_names:
            continue
        allowed = EXTRAS.get(found.module) or EXTRAS.get(_room(found.module), _TRAIN)
        names = ("", *allowed[0 if found.at_top else 1])
        declared = set().union(*(extras[name] for name in names))
        if not declared & {_canonical(name) for name in distributions.get(package, [package])}:
            where = "at the top" if found.at_top else "in a function"
            yield f"{found.module}:{found.line}: imports {package} {where}, which the extras {names[1:]} do not have"


if __name__ == "__main__":
    sys.exit(main())
