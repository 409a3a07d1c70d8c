"""The packages that masslib declares as dependencies."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.metadata import metadata, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import masslib


@dataclass(frozen=True)
class Ranges:
    """What masslib requires.

    Attributes:
        python: The versions of Python.
        needed: The packages that are installed without any extra.
        extras: The packages of every extra, by its name.
        source: Where the ranges were read.
    """

    python: SpecifierSet
    needed: list[Requirement]
    extras: dict[str, list[Requirement]]
    source: str


def declared_ranges(folder: Path | None = None) -> Ranges:
    """Read pyproject.toml in a checkout, else the metadata of the installed package.

    In a checkout the metadata may be older than pyproject.toml.

    Args:
        folder: The folder that holds the package `masslib`; None takes the one that is running.

    Raises:
        PackageNotFoundError: If there is neither.

    Example:
        >>> from masslib.doctor import declared_ranges
        >>> "tensorflow" in [requirement.name for requirement in declared_ranges().extras["train"]]
        True
    """
    file = (folder or Path(masslib.__file__).parent.parent) / "pyproject.toml"
    if file.is_file():
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        if project["name"] == "masslib":
            extras = {name: _parsed(lines) for name, lines in project["optional-dependencies"].items()}
            return Ranges(SpecifierSet(project["requires-python"]), _parsed(project["dependencies"]), extras, str(file))
    about = metadata("masslib")
    declared = _parsed(requires("masslib") or [])
    extras = {
        name: [entry for entry in declared if entry.marker and entry.marker.evaluate({"extra": name})]
        for name in about.get_all("Provides-Extra", [])
    }
    needed = [entry for entry in declared if entry.marker is None]
    return Ranges(SpecifierSet(about["Requires-Python"]), needed, extras, "the installed package")


def _parsed(lines: list[str]) -> list[Requirement]:
    return [Requirement(line) for line in lines]
