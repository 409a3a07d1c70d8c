"""What the steps of a recipe have in common: they are values that validate themselves when made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np


class Step:
    """One technique with its settings; see the subclasses.

    Attributes:
        order: Place in a recipe. Lower runs first; later steps preserve earlier results.
    """

    order: ClassVar[int]

    def __post_init__(self) -> None:
        """Keep settings as plain Python values: they are shown as one would type them, and stored as JSON."""
        for setting in fields(self):
            object.__setattr__(self, setting.name, _plain(getattr(self, setting.name)))

    def __repr__(self) -> str:
        """Show the step as one would type it: the first setting, and those that do not have their default."""
        positional, named = [], []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.default is MISSING or not (field.kw_only or positional or value is None):
                positional.append(repr(value))
            elif value != field.default:
                named.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(positional + named)})"

    def settings(self) -> dict[str, Any]:
        """Return the settings in a form that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Self:
        """Make a step from what `settings` returned."""
        return cls(**settings)


@dataclass(frozen=True, kw_only=True, repr=False)
class Training(Step):
    """The settings of every step that fine-tunes.

    Args:
        epochs: Passes over the data.
        max_steps: Upper limit of the training steps (batches), whatever the epochs.
        learning_rate: Of the fine-tuning; that of the model's own optimizer if absent.
    """

    epochs: int = 1
    max_steps: int | None = None
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        kind = type(self).__name__
        for name in ("epochs", "max_steps"):
            value = getattr(self, name)
            optional = name == "max_steps" and value is None
            if not optional and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ValueError(f"{kind}({name}={value!r}): expected a positive integer")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ValueError(
                f"{kind}(learning_rate={self.learning_rate!r}): expected a positive number, "
                "or None for the learning rate that the model was compiled with"
            )


def _plain(value: Any) -> Any:
    """Turn numbers of NumPy into those of Python."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value


def check_min_share(step: Any) -> None:
    """Refuse a `min_share` that is no fraction."""
    if not 0 <= step.min_share < 1:
        raise ValueError(f"{type(step).__name__}(min_share={step.min_share!r}): expected a fraction from 0 up to 1")


def split(step: Step, reasons: dict[str, str]) -> tuple[set[str], dict[str, str]]:
    """Split layer -> reason, empty for those that can be treated, into the layers to treat and those to skip.

    Raises:
        ValueError: If there is none to treat.
    """
    chosen = {name for name, reason in reasons.items() if not reason}
    skipped = {name: reason for name, reason in reasons.items() if reason}
    if not chosen:
        listed = "".join(f"\n  {name}: {reason}" for name, reason in skipped.items()) or " it has no kernels"
        raise ValueError(f"{step!r} finds no layer to work on:{listed}")
    return chosen, skipped
