"""Error messages that name the extra which installs a missing package."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

# Import name -> distribution, where they differ by more than hyphens
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "tensorflow_serving": "tensorflow-serving-api"}


@contextmanager
def needed_by(what: str) -> Iterator[None]:
    """Name the extra to install when an import in the block fails; a context manager, or a decorator.

    Args:
        what: What needs the import: a public name, a file, a command.

    Raises:
        ModuleNotFoundError: If a package that masslib declares is missing, with the command that installs it.
            Other errors pass through unchanged.

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
    """Raise an error that names the extra, or the original one if no extra installs the missing module.

    When calls are nested, the outermost name is reported.
    """
    cause = error.__cause__
    original = cause if isinstance(cause, ModuleNotFoundError) and cause.name == error.name else error
    missing = (original.name or "").partition(".")[0]
    # If the package itself was imported, a submodule is missing, which no extra provides.
    if sys.modules.get(missing) is not None or distribution(missing) not in _extras():
        raise original
    message = f"{what} needs {distribution(missing)}, which comes with: {command(missing)}"
    raise ModuleNotFoundError(message, name=original.name, path=original.path) from original


def command(*modules: str) -> str:
    """Return the command that installs the extras which provide these modules."""
    found = _extras()
    names = [found.get(distribution(module), "") for module in modules]
    extras = ",".join(dict.fromkeys(name for name in names if name))
    return f"pip install 'masslib[{extras}]'" if extras else "pip install masslib"


def distribution(module: str) -> str:
    """Return the distribution that provides a module."""
    return DISTRIBUTIONS.get(module, module.replace("_", "-"))


def _extras() -> dict[str, str]:
    """Map each distribution to the first extra that declares it, "" for none, from the installed metadata."""
    from importlib.metadata import PackageNotFoundError, requires  # slow to import

    try:
        lines = requires("masslib") or []
    except PackageNotFoundError:  # run from a folder, not installed
        return {}
    found: dict[str, str] = {}
    for line in lines:
        extra = re.search(r"extra == [\"'](.+?)[\"']", line)
        found.setdefault(re.split(r"[^\w.-]", line)[0], extra[1] if extra else "")
    return found
