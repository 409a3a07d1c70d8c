"""What an examination finds."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        what: What was found and what was expected.
        mend: What to type, or to do, against it.
        serious: False where masslib works all the same, and only an extra is concerned.
    """

    what: str
    mend: str
    serious: bool = True

    def __str__(self) -> str:
        return f"{'problem' if self.serious else 'note'}: {self.what}\n  mend it: {self.mend}"


def pip(command: str, *arguments: str) -> str:
    """Write a command line that runs pip in this very environment."""
    return shlex.join([python(), "-m", "pip", *command.split(), *arguments])


def python() -> str:
    """Return the path of this Python, relative to the current folder when it lies inside of it."""
    inside = os.path.relpath(sys.executable)
    return sys.executable if inside.startswith(os.pardir) else inside


def listing(names: Iterable[str]) -> str:
    """Join names as in a sentence: "a, b and c"."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
