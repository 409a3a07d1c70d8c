"""Pruning: weights that matter least become zero and stay zero."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import tf_keras

from masslib.compression.finetune import Tuner
from masslib.compression.step import check_min_share, split
from masslib.compression.steps.constraints import Constrained, constrained
from masslib.compression.steps.per_layer import narrowed, value_of, values_of
from masslib.compression.tfmot import own_kinds, support
from masslib.compression.tfmot.importance import kernel_of, lamp, shares_below, taylor
from masslib.compression.tfmot.keeping import freeze_untreated
from masslib.compression.tfmot.masks import magnitude_masks, never, taylor_masks
from masslib.compression.tfmot.toolkit import tfmot
from masslib.graph.weights import copy_weights

_SCHEDULES = ("polynomial", "constant")
_SCOPES = ("layer", "global")
_IMPORTANCES = ("magnitude", "taylor")
_TWO_OF_FOUR = "2:4"
# Share of the training steps in which the sparsity rises; in the rest the remaining weights recover.
_RAMP = 0.6
# New masks in a step of a recipe. TFMOT's guides take one every 100 batches.
_UPDATES = 10
# What importance is measured on
_BATCHES = 8


@dataclass(frozen=True, repr=False)
class Prune(Constrained):
    """Set the weights of the dense and convolution kernels that matter least to zero, while fine-tuning.

    With the polynomial schedule the sparsity rises from 0, quickly at first, during the first 60 % of the
    training steps (Zhu and Gupta, "To prune, or not to prune", 2017, by way of TFMOT). A pruned file gets
    smaller when it is compressed, as on its way to a phone; unpacked it keeps its size.

    Kernels that hold next to none of the weights, such as a first convolution, are left alone: they would
    save nothing and cost most of the accuracy.

    Args:
        sparsity: Fraction of the weights of each kernel that become zero, above 0 and below 1; or a dict from the
            names of layers to their fractions, which leaves all other layers alone.
        schedule: `"polynomial"`, or `"constant"` for the full sparsity from the first step on.
        scope: `"layer"`: each kernel gets this sparsity. `"global"`: all kernels together do. One threshold, over
            scores that are comparable between kernels (LAMP for magnitudes), tells how much of each kernel goes.
        pattern: Where zeros may stand. None: anywhere. `"2:4"`: at least two in any four consecutive input channels
            of a convolution or inputs of a dense layer, set once at the first step; the sparsity must be 0.5. A pair
            `(rows, columns)`: whole blocks of dense kernels `(inputs, units)`, judged by their mean magnitude.
        importance: `"magnitude"`, or `"taylor"` for |w * dL/dw|: what removing a weight would change the loss, to
            first order (Molchanov et al., 2017 and 2019), measured on eight batches before every rise.
        min_share: Kernels with a smaller share of the model's weights are skipped, and reported as such; 0
            prunes all of them. Layers that `sparsity` names are pruned however small they are.
        epochs: Passes over the data.
        max_steps: Upper limit of the training steps (batches), whatever the epochs.
        learning_rate: Of the fine-tuning; that of the model's own optimizer if absent.
        constraint: What the pruned kernels are projected on after every batch: a name such as `"max_norm"`, or an
            object of `keras.constraints`.

    Raises:
        ValueError: If the sparsity is outside (0, 1), a name is unknown, or settings exclude each other.

    Example:
        >>> Prune(0.8, max_steps=200)
        Prune(0.8, max_steps=200)
        >>> Prune({"conv2": 0.6, "dense1": 0.95})
        Prune({'conv2': 0.6, 'dense1': 0.95})
    """

    order = 3

    sparsity: float | Mapping[str, float]
    schedule: str = "polynomial"
    scope: str = "layer"
    pattern: str | tuple[int, int] | None = None
    importance: str = "magnitude"
    min_share: float = support.MIN_SHARE

    def __post_init__(self) -> None:
        super().__post_init__()
        for value in values_of(self.sparsity):
            if not isinstance(value, int | float) or not 0 < value < 1:
                raise ValueError(
                    f"Prune(sparsity={self.sparsity!r}): expected a fraction above 0 and below 1, "
                    "such as 0.8 for four zeros in five weights, or a dict from names of layers to fractions"
                )
        for name, known in {"schedule": _SCHEDULES, "scope": _SCOPES, "importance": _IMPORTANCES}.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"Prune({name}={getattr(self, name)!r}): expected one of {', '.join(map(repr, known))}"
                )
        self._check_pattern()
        if self.scope == "global" and isinstance(self.sparsity, Mapping):
            raise ValueError(f"{self!r}: the global scope finds the sparsity of each layer; pass one fraction for all")
        check_min_share(self)

    def _check_pattern(self) -> None:
        if self.pattern is None:
            return
        if self.pattern != _TWO_OF_FOUR:
            if (
                not isinstance(self.pattern, tuple | list)
                or len(self.pattern) != 2
                or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in self.pattern)
            ):
                raise ValueError(
                    f"Prune(pattern={self.pattern!r}): expected None, '2:4', or the rows and columns of a block, "
                    "such as (4, 1)"
                )
            # A list comes out of JSON.
            object.__setattr__(self, "pattern", tuple(self.pattern))
        elif any(value != 0.5 for value in values_of(self.sparsity)):
            raise ValueError(f"{self!r}: two zeros in four weights are a sparsity of 0.5; pass 0.5")
        if self.scope == "global" or self.importance == "taylor":
            raise ValueError(f"{self!r}: a pattern goes with scope='layer' and importance='magnitude'")

    def apply(self, twin: tf_keras.Model, tuner: Tuner) -> tuple[tf_keras.Model, dict[str, str]]:
        """Return a pruned and fine-tuned tf_keras model, and the layers left alone with the reason."""
        sparsity = tfmot().sparsity.keras
        chosen, skipped = split(self, self._reasons(twin))
        model = constrained(twin, self.constraint, chosen)
        freeze_untreated(model, chosen)
        shares = self._shares(model, chosen, tuner)
        schedules = {name: self._schedule(share, tuner.steps(self)) for name, share in shares.items()}

        def wrapped(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
            if layer.name not in chosen:
                return layer
            schedule = never() if self.pattern is None else schedules[layer.name]
            known = own_kinds.prunable(layer, support.kernel_name(layer))
            return sparsity.prune_low_magnitude(known, pruning_schedule=schedule, **self._pattern_settings())

        pruned = tf_keras.models.clone_model(model, clone_function=wrapped)
        callbacks = [sparsity.UpdatePruningStep()]
        if self.importance == "taylor":
            callbacks.append(taylor_masks(pruned, schedules, tuner.sample(pruned, _BATCHES)))
        elif self.pattern is None:
            callbacks.append(magnitude_masks(pruned, schedules))
        tuner.fit(pruned, self, callbacks)
        stripped = sparsity.strip_pruning(pruned)
        if model is twin:
            return stripped, skipped
        result = tf_keras.models.clone_model(twin)
        copy_weights(stripped, result)
        return result, skipped

    def _reasons(self, twin: tf_keras.Model) -> dict[str, str]:
        reasons = support.prunable(twin, 0 if isinstance(self.sparsity, Mapping) else self.min_share)
        for name, reason in reasons.items():
            if not reason and self.pattern is not None:
                reasons[name] = self._why_no_pattern(kernel_of(twin.get_layer(name)).shape)
        return narrowed(self, self.sparsity, reasons)

    def _why_no_pattern(self, shape: tuple[int, ...]) -> str:
        if self.pattern != _TWO_OF_FOUR:
            return "" if len(shape) == 2 else "TFMOT prunes blocks of dense kernels only"
        if len(shape) not in (2, 4):
            return "TFMOT prunes 2:4 in dense kernels and those of two-dimensional convolutions only"
        return "" if shape[-2] > 2 else f"has {shape[-2]} input channel(s), of which 2:4 would prune none"

    def _pattern_settings(self) -> dict[str, tuple[int, int]]:
        if self.pattern is None:
            return {}
        return {"sparsity_m_by_n": (2, 4)} if self.pattern == _TWO_OF_FOUR else {"block_size": self.pattern}

    def _shares(self, model: tf_keras.Model, chosen: Collection[str], tuner: Tuner) -> dict[str, float]:
        """Return the final sparsity of each layer."""
        names = [layer.name for layer in model.layers if layer.name in chosen]
        if self.scope == "layer":
            return {name: value_of(self.sparsity, name) for name in names}
        kernels = {name: kernel_of(model.get_layer(name)) for name in names}
        if self.importance == "magnitude":
            return shares_below({name: lamp(kernel.numpy()) for name, kernel in kernels.items()}, self.sparsity)
        tuner.compile(model)
        return shares_below(taylor(model, kernels, tuner.sample(model, _BATCHES)), self.sparsity)

    def _schedule(self, share: float, steps: int) -> Any:
        sparsity = tfmot().sparsity.keras
        ramp = int(steps * _RAMP)
        if self.schedule == "constant" or ramp < 1:
            return sparsity.ConstantSparsity(share, begin_step=1, frequency=max(1, steps // _UPDATES))
        frequency = max(1, ramp // _UPDATES)
        # The last update must fall on end_step, or the final sparsity is never reached.
        end = ramp // frequency * frequency
        return sparsity.PolynomialDecay(0.0, share, begin_step=0, end_step=end, frequency=frequency)
