"""Which extra of masslib installs a package that is missing."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

# Import name -> distribution, where a hyphen is not all that differs
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "tensorflow_serving": "tensorflow-serving-api"}


@contextmanager
def needed_by(what: str) -> Iterator[None]:
    """Say which extra installs the package that an import in the block lacks.

    Args:
        what: What needs the package: a public name, a file, a command.

    Raises:
        ModuleNotFoundError: If the package is one that masslib declares, with the command that installs it.

    Example:
        >>> from masslib._util.extras import needed_by
        >>> with needed_by("model.onnx"):
        ...     import json
    """
    try:
        yield
    except ModuleNotFoundError as error:
        explain(error, what)


def explain(error: ModuleNotFoundError, what: str) -> NoReturn:
    """Raise the error again: with the extra that helps, or as it is where no extra has the missing module.

    An error that was explained already is explained anew, so that the outermost name is the one that is told.
    """
    cause = error.__cause__
    original = cause if isinstance(cause, ModuleNotFoundError) and cause.name == error.name else error
    missing = (original.name or "").partition(".")[0]
    # What was imported is there: then a part of it is missing, which no extra brings.
    if sys.modules.get(missing) is not None or distribution(missing) not in _extras():
        raise original
    message = f"{what} needs {distribution(missing)}, which comes with: {command(missing)}"
    raise ModuleNotFoundError(message, name=original.name, path=original.path) from original


def command(*modules: str) -> str:
    """Return the command that installs the extras which have these modules."""
    found = _extras()
    names = [found.get(distribution(module), "") for module in modules]
    extras = ",".join(dict.fromkeys(name for name in names if name))
    return f"pip install 'masslib[{extras}]'" if extras else "pip install masslib"


def distribution(module: str) -> str:
    """Return the name under which a module is installed."""
    return DISTRIBUTIONS.get(module, module.replace("_", "-"))


def _extras() -> dict[str, str]:
    """Distribution -> the first extra that declares it, "" for the light install; from the installed metadata."""
    from importlib.metadata import PackageNotFoundError, requires  # slow to import

    try:
        lines = requires("masslib") or []
    except PackageNotFoundError:  # runs from a folder, without being installed
        return {}
    found: dict[str, str] = {}
    for line in lines:
        extra = re.search(r"extra == [\"'](.+?)[\"']", line)
        found.setdefault(re.split(r"[^\w.-]", line)[0], extra[1] if extra else "")
    return found
