"""Quantization-aware training: fine-tune the weights and the ranges that int8 will use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import tf_keras

from masslib.compression.finetune import Tuner
from masslib.compression.step import split
from masslib.compression.steps.constraints import Constrained, constrained
from masslib.compression.steps.per_layer import narrowed
from masslib.compression.tfmot import own_kinds, support
from masslib.compression.tfmot.boundaries import with_boundaries
from masslib.compression.tfmot.keeping import freeze_untreated
from masslib.compression.tfmot.ranges import ranges_from_the_first_batch
from masslib.compression.tfmot.schemes import by_role, output_only, quantize_scope, scheme
from masslib.compression.tfmot.toolkit import reserve, tfmot


@dataclass(frozen=True, repr=False)
class QuantizeAware(Constrained):
    """Fine-tune with int8 weights and activations emulated, so that the exported int8 file loses next to nothing.

    The method is that of Jacob et al., "Quantization and training of neural networks for efficient
    integer-arithmetic-only inference", 2018, by way of TFMOT. Zeros and clusters that earlier steps won are kept,
    by TFMOT's PQAT, CQAT and PCQAT schemes. What TFMOT cannot quantize stays in float and is reported as skipped;
    `masslib.diagnose` tells before. Layers that stay in float are trained, too, unless they were pruned or clustered.
    TFMOT trains the kernels of frozen layers, too.

    It stands last in a recipe and needs no `Quantize`. `Compressed.model` is the tf_keras model that carries the
    ranges; `masslib.export.tflite` writes it as int8. In a file for batches of any size the converter leaves dense
    layers on series or images, and dilated convolutions, in float; with `batch_size=1` they become int8 as well.

    Args:
        layers: Names of the layers to quantize, which leaves all others in float; by default all that can be. A batch
            normalization that becomes a part of a named layer comes with it.
        epochs: Passes over the data.
        max_steps: Upper limit of the training steps (batches), whatever the epochs.
        learning_rate: Of the fine-tuning; that of the model's own optimizer if absent.
        constraint: What the kernels are projected on after every batch, as in `Prune`.

    Raises:
        ValueError: If `layers` is no list of names.

    Example:
        >>> QuantizeAware(max_steps=200)
        QuantizeAware(max_steps=200)
        >>> QuantizeAware(layers=["conv2", "dense1"])
        QuantizeAware(layers=('conv2', 'dense1'))
    """

    order = 5

    layers: Sequence[str] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers is None:
            return
        if isinstance(self.layers, str) or not all(isinstance(name, str) for name in self.layers) or not self.layers:
            raise ValueError(
                f"QuantizeAware(layers={self.layers!r}): expected names of layers, such as ['conv2', 'dense1'], or None"
            )
        # A list comes out of JSON.
        object.__setattr__(self, "layers", tuple(self.layers))

    def apply(self, twin: tf_keras.Model, tuner: Tuner) -> tuple[tf_keras.Model, dict[str, str]]:
        """Return a fine-tuned tf_keras model with ranges, and the layers left in float with the reason."""
        quantization = tfmot().quantization.keras
        chosen, skipped = split(self, self._reasons(twin))
        freeze_untreated(twin, chosen)

        reserve(layer.name for layer in twin.layers)
        ranged = {layer.name for layer in twin.layers if layer.name in chosen and own_kinds.is_ranged(layer)}
        chosen -= ranged
        twin, boundaries = with_boundaries(twin, chosen, ranged)
        outside = {*skipped, *ranged}

        def annotated(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
            if layer.name in boundaries:
                return quantization.quantize_annotate_layer(layer, output_only(boundaries[layer.name]))
            return quantization.quantize_annotate_layer(layer) if layer.name in chosen else layer

        plan = tf_keras.models.clone_model(twin, clone_function=annotated)
        kernels = {layer.name for layer in twin.layers if layer.name in chosen and support.kernel_name(layer)}
        tied = constrained(twin, self.constraint, kernels)
        training = plan if tied is twin else tf_keras.models.clone_model(tied, clone_function=annotated)
        with quantize_scope():
            aware = quantization.quantize_apply(training, scheme(outside, preserving=True))
            tuner.fit(aware, self, [ranges_from_the_first_batch(aware)])
            # The preserving schemes train with copies of weights and masks that a finished model does not need.
            result = quantization.quantize_apply(plan, scheme(outside, preserving=False))
        _copy_trained(aware, result)
        return result, {name: f"stays in float: {reason}" for name, reason in skipped.items()}

    def _reasons(self, twin: tf_keras.Model) -> dict[str, str]:
        reasons = support.quantizable(twin)
        if self.layers is None:
            return reasons
        folded = support.folded(twin)
        alone = [name for name in self.layers if folded.get(name, name) not in self.layers]
        if alone:
            raise ValueError(
                f"{self!r} names {alone[0]!r} without {folded[alone[0]]!r} before it, of which it becomes a part"
            )
        norms = [norm for norm, layer in folded.items() if layer in self.layers and not reasons[norm]]
        return narrowed(self, dict.fromkeys([*self.layers, *norms]), reasons)


def _copy_trained(aware: tf_keras.Model, result: tf_keras.Model) -> None:
    for source, target in zip(aware.layers, result.layers, strict=True):
        trained = by_role(source)
        for role, variable in by_role(target).items():
            variable.assign(trained[role])
