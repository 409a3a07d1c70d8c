"""The installed packages: the tested ranges, what the packages ask of each other, and wrong pairings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from masslib.doctor.findings import Finding, listing, pip
from masslib.doctor.ranges import Ranges

# What is imported under another name than it is installed
_MODULES = {"scikit-learn": "sklearn", "pillow": "PIL", "tensorflow-serving-api": "tensorflow_serving"}


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
    """Compare what is installed with what is tested; nothing is imported.

    Args:
        ranges: From `declared_ranges`.
        python: The version of Python, such as "3.11.7".

    Returns:
        What is wrong: a Python or a package outside of its range, a package that is not there, packages that
        overwrite each other or do not fit each other. Extras give notes, and missing ones none.

    Example:
        >>> from masslib.doctor import package_findings, declared_ranges
        >>> print(package_findings(declared_ranges(), "3.9.1")[0].what)
        Python 3.9.1 runs this; masslib is tested with <3.14,>=3.11
    """
    found = [] if ranges.python.contains(python) else [_wrong_python(ranges, python)]
    found += _twins(ranges.needed, packages_distributions())
    found += filter(None, (_outside(entry) for entry in ranges.needed))
    for extra, entries in ranges.extras.items():
        found += filter(None, (_outside(entry, extra) for entry in entries if installed(entry.name)))
    found += _pairings(ranges.needed)
    return found


def missing(entries: list[Requirement]) -> list[Requirement]:
    """Return the packages that are not installed."""
    return [entry for entry in entries if not installed(entry.name)]


def _wrong_python(ranges: Ranges, python: str) -> Finding:
    return Finding(
        f"Python {python} runs this; masslib is tested with {ranges.python}",
        "make a new environment with a tested one: python3.11 -m venv .venv (or, in a checkout, `make install`)",
    )


def _outside(entry: Requirement, extra: str = "") -> Finding | None:
    present = installed(entry.name)
    label = f"{entry.name} (extra {extra})" if extra else entry.name
    wanted = Requirement(f"{entry.name}{entry.specifier}")  # without its marker
    if present is None:
        return Finding(f"{label} is not installed; masslib needs {entry.specifier}", pip("install", wanted))
    if entry.specifier.contains(present, prereleases=True):
        return None
    what = f"{label} {present} is installed; masslib is tested with {entry.specifier}"
    return Finding(what, pip("install", wanted), serious=not extra)


def _twins(needed: list[Requirement], distributions: Mapping[str, list[str]]) -> Iterator[Finding]:
    """Find packages that install the same module, as tensorflow and tensorflow-cpu do: the last one wins."""
    for entry in needed:
        own = canonicalize_name(entry.name)
        others = sorted({canonicalize_name(name) for name in distributions.get(module(entry), [])} - {own})
        if others:
            remove, install = pip("uninstall -y", *others, own), pip("install", entry)
            yield Finding(
                f"{listing([*others, own] if installed(own) else others)} "
                f"install{'' if installed(own) or len(others) > 1 else 's'} the module {module(entry)!r}, which "
                f"masslib expects from {own} alone",
                f"{remove} && {install}",
            )


def _pairings(needed: list[Requirement]) -> Iterator[Finding]:
    """Find packages that do not fit each other, whatever masslib asks for."""
    tensorflow, tf_keras = installed("tensorflow"), installed("tf-keras")
    if tensorflow and tf_keras and Version(tensorflow).release[:2] != Version(tf_keras).release[:2]:
        entries = [entry for entry in needed if entry.name in ("tensorflow", "tf-keras")]
        yield Finding(
            f"tensorflow {tensorflow} and tf-keras {tf_keras} are of different minor versions; tf-keras is built for "
            "the TensorFlow of its own number",
            pip("install", *entries),
        )
    for entry in needed:
        for line in (requires(entry.name) or []) if installed(entry.name) else []:
            wanted = Requirement(line)
            if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
                continue
            present = installed(wanted.name)
            if present is None or not wanted.specifier.contains(present, prereleases=True):
                state = f"{wanted.name} {present} is installed" if present else f"{wanted.name} is not installed"
                yield Finding(
                    f"{state}; {entry.name} {installed(entry.name)} needs {wanted.name}{wanted.specifier}",
                    pip("install", f"{wanted.name}{wanted.specifier}"),
                )
