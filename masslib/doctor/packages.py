"""Whether the installed packages satisfy what masslib, and what they themselves, declare."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from masslib._util.extras import DISTRIBUTIONS
from masslib.doctor.findings import Finding, listing, pip
from masslib.doctor.ranges import Ranges

_MODULES = {distribution: module for module, distribution in DISTRIBUTIONS.items()}


def module(requirement: Requirement) -> str:
    """Return the name under which a required package is imported."""
    return _MODULES.get(requirement.name, requirement.name.replace("-", "_"))


def installed(name: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def package_findings(ranges: Ranges, python: str) -> list[Finding]:
    """Compare what is installed with what is declared; nothing is imported.

    Unlike `pip check`, this includes extras, leaves out packages that masslib does not use, and needs no pip.

    Args:
        ranges: From `declared_ranges`.
        python: The version of Python, such as "3.11.7".

    Returns:
        What is wrong: Python or a package outside its range, a missing package, packages that overwrite each other.
        Findings about extras other than `train` are notes. An extra that is not or only partly installed is no finding.

    Example:
        >>> from masslib.doctor import package_findings, declared_ranges
        >>> print(package_findings(declared_ranges(), "3.9.1")[0].what)
        this is Python 3.9.1; masslib needs <3.14,>=3.11
    """
    found = [] if ranges.python.contains(python) else [_wrong_python(ranges, python)]
    found += _twins([*ranges.needed, *ranges.extras.get("train", [])])
    found += _unmet(ranges.needed, "masslib")
    for extra, entries in ranges.extras.items():
        present = [entry for entry in entries if installed(entry.name)]
        found += _unmet(present, f"masslib[{extra}]", serious=extra == "train")
    return list({finding.what: finding for finding in reversed(found)}.values())[::-1]


def _wrong_python(ranges: Ranges, python: str) -> Finding:
    return Finding(
        f"this is Python {python}; masslib needs {ranges.python}",
        "create a new environment: python3.11 -m venv .venv (or, in a checkout, `make install`)",
    )


def _unmet(entries: list[Requirement], by: str, serious: bool = True) -> Iterator[Finding]:
    """Find packages that are missing or outside their range, and the same for their direct dependencies."""
    for entry in entries:
        yield from _outside(entry, by, serious)
        present = installed(entry.name)
        for line in (requires(entry.name) or []) if present else []:
            wanted = Requirement(line)
            if not wanted.marker or wanted.marker.evaluate({"extra": ""}):
                yield from _outside(wanted, f"{entry.name} {present}", serious)


def _outside(wanted: Requirement, by: str, serious: bool) -> Iterator[Finding]:
    present = installed(wanted.name)
    if present is None or not wanted.specifier.contains(present, prereleases=True):
        state = f"{wanted.name} {present} is installed" if present else f"{wanted.name} is not installed"
        plain = f"{wanted.name}{wanted.specifier}"  # without its marker
        yield Finding(f"{state}; {by} needs {plain}", pip("install", plain), serious)


def _twins(entries: list[Requirement]) -> Iterator[Finding]:
    """Find packages that install the same module, as tensorflow and tensorflow-cpu do: the last one wins."""
    distributions = packages_distributions()
    for entry in entries:
        own = canonicalize_name(entry.name)
        others = sorted({canonicalize_name(name) for name in distributions.get(module(entry), [])} - {own})
        if others:
            remove, install = pip("uninstall -y", *others, own), pip("install", f"{entry.name}{entry.specifier}")
            yield Finding(
                f"{listing([*others, own] if installed(own) else others)} "
                f"install{'' if installed(own) or len(others) > 1 else 's'} the module {module(entry)!r}, which "
                f"masslib expects from {own} alone",
                f"{remove} && {install}",
            )
