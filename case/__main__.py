"""Run the case: python -m case --help."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import case

_LOG = "case.log"


def main(arguments: list[str] | None = None) -> int:
    """Run all stages, each in a folder below `--to`, and write the report."""
    options = _options(arguments)
    _empty(options.to)
    with _stderr_to(options.to / _LOG):
        from case import stages  # TensorFlow writes ten lines when it is imported

        report = stages.run(options.to, options.rows, options.size, options.epochs, options.scratch)
    print(f"{report.seconds:.0f} s in all; the report is {options.to / 'report.html'}")
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m case", description=case.__doc__)
    parser.add_argument("--to", type=Path, default=Path("build/case"), help="folder, emptied first (build/case)")
    parser.add_argument("--epochs", type=int, default=9, help="passes over the training photos (9)")
    parser.add_argument("--rows", type=int, help="training photos, all by default")
    parser.add_argument("--size", type=int, help="height and width of the photos (64; 32 of the stand-in)")
    parser.add_argument("--scratch", action="store_true", help="leave the weights of ImageNet aside")
    return parser.parse_args(arguments)


def _empty(folder: Path) -> None:
    """Make the folder, and take out what an earlier run left; one with other things in it stays as it is."""
    if folder.exists() and any(folder.iterdir()) and not (folder / _LOG).exists():
        raise SystemExit(f"{folder} holds something else than an earlier run; choose another folder with --to")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


@contextmanager
def _stderr_to(file: Path) -> Iterator[None]:
    """Send what this process and its children write to stderr to a file: TensorFlow's log, most of it in C++."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(file, "ab") as log:
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


if __name__ == "__main__":
    sys.exit(main())
