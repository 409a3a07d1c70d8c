"""Settings of single layers: a dict from the name of a layer to its value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from masslib.compression.step import Step


def narrowed(step: Step, setting: Any, reasons: Mapping[str, str]) -> dict[str, str]:
    """Return layer -> reason, in which a dict of settings leaves alone every layer that it does not name.

    Args:
        step: For the messages.
        setting: One value for all layers, or a dict.
        reasons: Layer -> reason, empty for those that can be treated.

    Raises:
        ValueError: If the dict names a layer that is not there or cannot be treated.
    """
    if not isinstance(setting, Mapping):
        return dict(reasons)
    unknown = sorted(setting.keys() - reasons.keys())
    if unknown:
        raise ValueError(f"{step!r} names {', '.join(unknown)}; the layers to choose from are {', '.join(reasons)}")
    impossible = [f"{name}: {reasons[name]}" for name in setting if reasons[name]]
    if impossible:
        raise ValueError(f"{step!r} names layers that it cannot treat: {'; '.join(impossible)}")
    return {name: reason if name in setting else "is not named" for name, reason in reasons.items()}


def value_of(setting: Any, name: str) -> Any:
    """Return the value for one layer."""
    return setting[name] if isinstance(setting, Mapping) else setting


def values_of(setting: Any) -> list[Any]:
    """Return all values, for the checks of a step; a dict needs at least one."""
    return list(setting.values()) if isinstance(setting, Mapping) and setting else [setting]
