"""`python -m masslib doctor`: look at everything, print it, and say how to mend what is wrong."""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path

from packaging.requirements import Requirement

import masslib
from masslib._util.cores import available_cores
from masslib.doctor.findings import Finding, listing, pip, python
from masslib.doctor.imports import import_findings
from masslib.doctor.packages import installed, package_findings
from masslib.doctor.ranges import Ranges, declared_ranges
from masslib.doctor.settings import setting_findings

# The extras that masslib itself imports
_OWN_EXTRAS = ("train", "onnx", "openvino", "int4", "serving")
_USES = {
    "train": "training, compression, export, figures",
    "notebooks": "JupyterLab and what runs notebooks",
    "test": "pytest, nbval, ruff",
    "bench": "peers for the benchmarks",
    "onnx": "files for ONNX Runtime",
    "serving": "requests that warm up TF Serving",
    "openvino": "files for OpenVINO",
    "int4": "TFLite files with weights of 4 bits",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("--quick", action="store_true", help="import nothing: one second instead of ten")


def main(options: argparse.Namespace) -> int:
    """Print the examination; 0 when nothing keeps masslib from working."""
    ranges = declared_ranges()
    print("\n".join(_machine()), *_packages(ranges), *_extras(ranges), sep="\n")
    found = package_findings(ranges, platform.python_version())
    found += setting_findings(os.environ, Path.home())
    if not options.quick:
        broken, seen = _imports(ranges)
        found += broken
        if installed("tensorflow"):
            print(_tensorflow(seen))
    print(*["", *map(str, found)], sep="\n")
    serious = sum(finding.serious for finding in found)
    print(f"{serious} problem{'s'[: serious != 1]}" if serious else "masslib is ready")
    return 1 if serious else 0


def _machine() -> list[str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [
        f"masslib {masslib.__version__} in {Path(masslib.__file__).parent}",
        f"Python {platform.python_version()} ({python()}) on {platform.system()} {platform.machine()}",
        f"{available_cores()} of {os.cpu_count()} cores, {memory / 1e9:.1f} GB of memory",
    ]


def _packages(ranges: Ranges) -> list[str]:
    rows = [f"\npackages, beside the ranges of {ranges.source}"]
    entries = [*ranges.needed, *filter(_present, ranges.extras.get("train", []))]
    return rows + [f"  {entry.name:<30}{installed(entry.name) or '-':<14}{entry.specifier}" for entry in entries]


def _extras(ranges: Ranges) -> list[str]:
    rows = ["\nextras"]
    for name, entries in ranges.extras.items():
        gone = [entry.name for entry in entries if not _present(entry)]
        state = "not installed" if len(gone) == len(entries) else f"without {listing(gone)}" if gone else "complete"
        mend = f": {pip('install', f'masslib[{name}]')}" if gone else ""
        rows.append(f"  {name:<12}{_USES.get(name, ''):<40}{state}{mend}")
    return rows


def _present(entry: Requirement) -> bool:
    return installed(entry.name) is not None


def _imports(ranges: Ranges) -> tuple[list[Finding], dict]:
    print("\nimporting all of them, about ten seconds ...", end="", flush=True)
    entries = [*ranges.needed, *sum((ranges.extras.get(name, []) for name in _OWN_EXTRAS), [])]
    result = import_findings([entry for entry in entries if _present(entry)])
    print(" done", flush=True)
    return result


def _tensorflow(seen: dict) -> str:
    if not seen:
        return "TensorFlow does not start"
    intra, inter = (seen[name] or f"{available_cores()} (one per core)" for name in ("intra", "inter"))
    return f"TensorFlow sees {', '.join(seen['devices'])}; threads within an operation: {intra}, between: {inter}"
