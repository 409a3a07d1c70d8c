"""What every room uses and none of them is about, such as packages that import their names on first use (PEP 562)."""

from __future__ import annotations

import sys
from importlib import import_module

TYPE_CHECKING = False  # type checkers know the name; importing typing would take longer than all the rest
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def attach(
    package: str, names: Mapping[str, str], *, moved: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package.

    For type checkers and editors, which do not run it, the package repeats the names in a block `if TYPE_CHECKING`.

    Args:
        package: Its `__name__`.
        names: Public name -> the module that it is imported from; the module itself where it has that very name.
        moved: Name that the package once had -> the module that has it now. It still works, with a DeprecationWarning.

    Raises:
        ModuleNotFoundError: On access to a name whose module needs a package that is not installed; the message names
            the extra that installs it.

    Example:
        >>> import masslib
        >>> masslib.export.tflite.__module__
        'masslib.export._tflite'
    """

    def get(name: str) -> Any:
        if name in (moved or {}):
            import warnings

            message = f"{package}.{name} is now {moved[name]}.{name}; the old name goes with version 1.0"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return getattr(import_module(moved[name]), name)
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {', '.join(names)}")
        try:
            module = import_module(names[name])
            value = module if names[name] == f"{package}.{name}" else getattr(module, name)
        except ModuleNotFoundError as error:
            from masslib._util.extras import explain

            explain(error, f"{package}.{name}")
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(sys.modules[package].__all__)
