"""What a notebook needs that may not be there: data sets that are not committed, extras that are not installed."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import nbformat
from packaging.requirements import Requirement

from notebook_execution import ROOT


def missing(path: Path) -> str | None:
    """Tell why a notebook cannot run here; None if it can.

    A notebook names what it needs in its metadata: `{"masslib": {"data": ["sms_spam"], "extras": ["ray"]}}`.

    Args:
        path: The notebook file. Nothing of it is run.

    Returns:
        A sentence that names what is missing and what to do.

    Raises:
        ValueError: If it needs a data set or an extra that does not exist.
    """
    needs = nbformat.read(path, as_version=4).metadata.get("masslib", {})
    if unknown := sorted(set(needs) - {"data", "extras"}):
        raise ValueError(f"{path.name} needs {unknown} in its metadata; data and extras are known")
    reasons = [*_data(path, needs.get("data", [])), *_extras(path, needs.get("extras", []))]
    return f"{path.name} needs {'; '.join(reasons)}" if reasons else None


def _data(path: Path, names: list[str]) -> list[str]:
    from masslib.data.catalog import CATALOG
    from masslib.data.sources import is_at_hand

    if unknown := sorted(set(names) - set(CATALOG)):
        raise ValueError(f"{path.name} needs the data {unknown}; there are {sorted(CATALOG)}")
    absent = [name for name in names if not is_at_hand(CATALOG[name])]
    return [f"the data {', '.join(absent)}: see docs/datasets.md"] if absent else []


def _extras(path: Path, names: list[str]) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = project["optional-dependencies"]
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"{path.name} needs the extras {unknown}; there are {sorted(known)}")
    absent = [name for name in names if not all(_installed(line) for line in known[name])]
    return [f"pip install 'masslib[{','.join(absent)}]'"] if absent else []


def _installed(line: str) -> bool:
    try:
        version(Requirement(line).name)
    except PackageNotFoundError:
        return False
    return True
