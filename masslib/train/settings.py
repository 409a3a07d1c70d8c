"""The arguments of `fit`, checked before anything is done."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import keras

from masslib._util.checks import check_count
from masslib.graph.checks import check_keras_3
from masslib.train.state import check_complete

_WORDS: dict[str, tuple[Any, ...]] = {
    "verbose": ("auto", 0, 1, 2),
    "wire": ("auto", "float32", "float16"),
    "on_nan": ("stop", "restore", "ignore"),
}


@dataclass(frozen=True)
class Settings:
    """The arguments of `fit` besides model, data and callbacks; see there."""

    batch_size: int | None
    epochs: int
    verbose: str | int
    shuffle: bool
    initial_epoch: int
    steps_per_epoch: int | None
    validation_split: float
    validation_steps: int | None
    validation_batch_size: int | None
    validation_freq: int | Collection[int]
    seed: int
    accumulate: int
    wire: str
    fused: bool
    on_nan: str
    checkpoint: str | os.PathLike[str] | None
    save_every: int | None
    keep: int
    resume: bool

    def check(self, model: Any) -> None:
        """Check them, and that they suit a model.

        Raises:
            TypeError: The model is no Keras 3 model.
            ValueError: It is not compiled, or an argument is none that `fit` takes.
        """
        check_keras_3(model)
        if not model.compiled:
            raise ValueError(f"model {model.name!r} is not compiled; call model.compile(optimizer=..., loss=...)")
        self._check_numbers()
        for name, values in _WORDS.items():
            if getattr(self, name) not in values:
                *most, last = map(repr, values)
                raise ValueError(f"{name}={getattr(self, name)!r}: expected {', '.join(most)} or {last}")
        losses = keras.tree.flatten(model.loss)
        if self.accumulate != 1 and any(getattr(loss, "reduction", None) == "sum" for loss in losses):
            raise ValueError(
                f"accumulate={self.accumulate} takes the mean over its parts, and a loss of {model.name!r} is a sum; "
                "compile it with reduction='sum_over_batch_size'"
            )
        if self.on_nan == "restore" and self.checkpoint is None:
            raise ValueError("on_nan='restore' needs checkpoints; pass checkpoint=folder")
        if self.checkpoint is not None:
            check_complete(model)

    def _check_numbers(self) -> None:
        for name in ("epochs", "accumulate"):
            check_count(name, getattr(self, name), minimum=1)
        for name in ("batch_size", "save_every", "steps_per_epoch", "validation_steps", "validation_batch_size"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), minimum=1)
        check_count("initial_epoch", self.initial_epoch, minimum=0)
        split, freq = self.validation_split, self.validation_freq
        if isinstance(split, bool) or not isinstance(split, Real) or not 0 <= split < 1:
            raise ValueError(f"validation_split={split!r}: expected a part from 0 to below 1")
        if isinstance(freq, Collection) and not isinstance(freq, str):
            for epoch in freq:
                check_count("validation_freq has the epoch", epoch, minimum=1)
        else:
            check_count("validation_freq", freq, minimum=1)

    def capped(self) -> Settings:
        """Return them with as many epochs and steps as `keras.config` allows in debugging runs."""
        limits = {"epochs": keras.config.max_epochs(), "steps_per_epoch": keras.config.max_steps_per_epoch()}
        asked = {name: getattr(self, name) for name in limits}
        lower = {name: most for name, most in limits.items() if most and (asked[name] is None or most < asked[name])}
        for name, most in lower.items():
            warnings.warn(f"keras.config limits {name} to {most}", stacklevel=3)
        return replace(self, **lower)
