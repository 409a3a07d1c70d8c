"""Where a training stands, and how it goes on after it was interrupted."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from masslib.train.keeper import Keeper
from masslib.train.state import State

if TYPE_CHECKING:
    import keras


class Journal:
    """The position of a training, kept in its checkpoints together with its state.

    Attributes:
        epoch: The current epoch, from 0.
        step: Steps made in it.
        total: Steps made since the beginning.
    """

    def __init__(
        self,
        model: keras.Model,
        state: State,
        keeper: Keeper | None,
        settings: Mapping[str, Any],
        initial_epoch: int = 0,
    ):
        self.epoch, self.step, self.total = initial_epoch, 0, 0
        self._model, self._state, self._keeper = model, state, keeper
        self._settings = dict(settings)
        self._spoilt = False

    def resume(self) -> bool:
        """Go to where the newest checkpoint was made; tell whether there is anything left to do.

        Raises:
            ValueError: If the checkpoint was made by a training with other settings or of another model.
        """
        found = self._keeper.newest() if self._keeper else None
        if found is None:
            self._state.part_seeds()
            return True
        arrays, about = found
        different = [
            f"{name}={value!r}, in the checkpoint {about['settings'].get(name)!r}"
            for name, value in self._settings.items()
            if about["settings"].get(name) != value
        ]
        if different:
            raise ValueError(
                f"the training in {self._keeper.folder} had other settings: {'; '.join(different)}; "
                "use the same ones to resume it, or name another folder"
            )
        self._state.write(arrays)
        self.epoch, self.step, self.total = about["epoch"], about["step"], about["total"]
        self._model.history.history.update(about["history"])
        told = max(map(len, about["history"].values()), default=0)
        self._model.history.epoch[:] = range(self.epoch - told, self.epoch)
        return not about["stopped"]

    def advance(self, steps: int) -> None:
        """Note that steps were made."""
        self.step += steps
        self.total += steps

    def check_progress(self, stopped: bool) -> None:
        """Raise `ValueError` if an epoch ended without a step, and nobody has stopped it."""
        if self.step == 0 and not stopped:
            raise ValueError(
                f"the data gave no batch in epoch {self.epoch + 1}, expected at least one; a generator can be read "
                "once only, so make it anew for every epoch or cache() the dataset"
            )

    def end_epoch(self) -> None:
        """Note that an epoch ended, and save."""
        self.epoch, self.step = self.epoch + 1, 0
        self.save()

    def save(self, *, stopped: bool = False) -> None:
        """Begin to write a checkpoint, if the training keeps any. Collective.

        Args:
            stopped: Whether the training has ended before its last epoch, so that there is nothing to resume.
        """
        if not self._keeper or self._spoilt:  # nobody wants to go on from weights that are not finite
            return
        self.average()
        about = {
            "epoch": self.epoch,
            "step": self.step,
            "total": self.total,
            "stopped": stopped,
            "history": self._model.history.history,
            "settings": self._settings,
        }
        self._keeper.save(self.total, self._state.read(), about)

    def wait(self) -> None:
        """Wait until the checkpoint that was begun is in its place. Collective."""
        if self._keeper:
            self._keeper.wait()

    def average(self) -> None:
        """Let the replicas agree on what each counted for itself."""
        self._state.average()

    def stop_if_not_finite(self, logs: Mapping[str, Any], *, restore: bool) -> bool:
        """Tell whether the training has to stop because loss or weights are not finite, and warn if so.

        The weights are checked as well, since Keras' cross-entropy clips probabilities: a network that outputs NaN has
        the loss of one that guesses.

        Args:
            logs: The logs of the last step.
            restore: Whether to go back to the newest checkpoint first.
        """
        told = [logs["loss"]] if "loss" in logs else logs.values()  # a metric may be undefined for some rows
        if all(np.isfinite(value).all() for value in told) and self._state.finite():
            return False
        place = f"loss or weights are not finite in epoch {self.epoch + 1} at step {self.step} or shortly before"
        remedy = "a lower learning rate or clipnorm in the optimizer may help"
        self.wait()
        found = self._keeper.newest() if restore else None
        self._spoilt = found is None
        if restore and not found:
            place += "; there is no checkpoint to go back to yet"
        if found:
            arrays, about = found
            self._state.write(arrays)
            self.epoch, self.step, self.total = about["epoch"], about["step"], about["total"]
            place += f"; the model is as it was after step {self.total}"
        warnings.warn(f"{place}; the training stops; {remedy}", RuntimeWarning, stacklevel=2)
        return True
