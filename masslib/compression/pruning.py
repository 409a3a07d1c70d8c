"""Pruning: weights of small magnitude become zero and stay zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from masslib.bridge import support
from masslib.bridge.toolkit import tfmot
from masslib.compression.finetune import Tuner
from masslib.compression.step import Training, check_min_share, split

if TYPE_CHECKING:
    import tf_keras

_SCHEDULES = ("polynomial", "constant")
# Share of the training steps in which the sparsity rises; in the rest the remaining weights recover.
_RAMP = 0.6
# TFMOT sorts all weights for every new mask: 0.4 s for 3.2 million of them.
_UPDATES = 10


@dataclass(frozen=True, repr=False)
class Prune(Training):
    """Set the smallest weights of the dense and convolution kernels to zero, while fine-tuning.

    With the polynomial schedule the sparsity rises from 0, quickly at first, during the first 60 % of the
    training steps (Zhu and Gupta, "To prune, or not to prune", 2017, by way of TFMOT). A pruned file gets
    smaller when it is compressed, as on its way to a phone; unpacked it keeps its size.

    Kernels that hold next to none of the weights, such as a first convolution, are left alone: they would
    save nothing and cost most of the accuracy.

    Args:
        sparsity: Fraction of the weights of each kernel that become zero, above 0 and below 1.
        schedule: `"polynomial"`, or `"constant"` for the full sparsity from the first step on.
        min_share: Kernels with a smaller share of the model's weights are skipped, and reported as such; 0
            prunes all of them.
        epochs: Passes over the data.
        max_steps: Upper limit of the training steps (batches), whatever the epochs.
        learning_rate: Of the fine-tuning; that of the model's own optimizer if absent.

    Raises:
        ValueError: If the sparsity is outside (0, 1) or the schedule is unknown.

    Example:
        >>> Prune(0.8, max_steps=200)
        Prune(0.8, max_steps=200)
    """

    order = 0

    sparsity: float
    schedule: str = "polynomial"
    min_share: float = support.MIN_SHARE

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.sparsity, int | float) or not 0 < self.sparsity < 1:
            raise ValueError(
                f"Prune(sparsity={self.sparsity!r}): expected a fraction above 0 and below 1, "
                "such as 0.8 for four zeros in five weights"
            )
        if self.schedule not in _SCHEDULES:
            raise ValueError(f"Prune(schedule={self.schedule!r}): expected one of {', '.join(map(repr, _SCHEDULES))}")
        check_min_share(self)

    def apply(self, twin: tf_keras.Model, tuner: Tuner) -> tuple[tf_keras.Model, dict[str, str]]:
        """Return a pruned and fine-tuned tf_keras model, and the layers left alone with the reason."""
        import tf_keras

        sparsity = tfmot().sparsity.keras
        chosen, skipped = split(self, support.prunable(twin, self.min_share))
        schedule = self._schedule(tuner.steps(self))

        def wrapped(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
            if layer.name not in chosen:
                return layer
            return sparsity.prune_low_magnitude(layer, pruning_schedule=schedule)

        pruned = tf_keras.models.clone_model(twin, clone_function=wrapped)
        tuner.fit(pruned, self, [sparsity.UpdatePruningStep()])
        return sparsity.strip_pruning(pruned), skipped

    def _schedule(self, steps: int) -> Any:
        sparsity = tfmot().sparsity.keras
        ramp = int(steps * _RAMP)
        if self.schedule == "constant" or ramp < 1:
            return sparsity.ConstantSparsity(self.sparsity, begin_step=0, frequency=max(1, steps // _UPDATES))
        frequency = max(1, ramp // _UPDATES)
        # The last update must fall on end_step, or the final sparsity is never reached.
        end = ramp // frequency * frequency
        return sparsity.PolynomialDecay(0.0, self.sparsity, begin_step=0, end_step=end, frequency=frequency)
