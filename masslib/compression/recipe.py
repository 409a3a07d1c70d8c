"""Run a recipe of compression steps on a Keras 3 model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from masslib import bridge
from masslib.compression.architecture import copied
from masslib.compression.finetune import Tuner
from masslib.compression.quantization import Quantize
from masslib.compression.quantization_aware import QuantizeAware
from masslib.compression.result import Compressed
from masslib.compression.step import Rebuilding, Step, Training
from masslib.data import Subset, from_arrays

if TYPE_CHECKING:
    import keras

_ORDER = ("Distill", "PruneChannels", "LowRank", "Prune", "Cluster")


def compress(
    model: keras.Model,
    steps: Step | Sequence[Step],
    data: Subset | tuple[Any, Any] | None = None,
    *,
    batch_size: int = 128,
    seed: int = 0,
    verbose: bool = True,
    custom_layers: Mapping[type, Any] | None = None,
) -> Compressed:
    """Make a trained Keras 3 model smaller, step by step; the model that was passed in is not changed.

    Steps that train are fine-tuned with the optimizer, loss and strategy that the model was compiled with. Those that
    change the architecture (`Distill`, `PruneChannels`, `LowRank`) rebuild the Keras 3 model; for those that change
    the weights it crosses the bridge to tf_keras, where TFMOT works, and back.

    Args:
        model: A trained and compiled Sequential or functional model.
        steps: A step such as `Prune(0.8)`, or a list of them, applied in order: `Distill`, `PruneChannels`,
            `LowRank`, `Prune`, `Cluster`, and last either `Quantize` or `QuantizeAware`.
        data: Training data, a `Subset` or a pair `(x, y)` of arrays. Training steps and the calibration of
            `Quantize("int8")` need it.
        batch_size: Rows per training step, of all replicas together.
        seed: Seed of the order of the rows and of the choice of calibration rows.
        verbose: Whether to show a progress bar per training step.
        custom_layers: How layers of your own cross the bridge; see `masslib.bridge.to_tf_keras`.

    Returns:
        A `Compressed` model, ready for `masslib.export.tflite`.

    Raises:
        TypeError: If `model` or a step is of another type.
        ValueError: If the order of the steps makes no sense, data is missing or does not fit the model, or
            the model has layers that cannot cross the bridge (all are listed).

    Example:
        >>> import masslib, numpy as np
        >>> from masslib import Prune, Quantize
        >>> model = masslib.models.mlp((4,), 3)
        >>> model.compile(loss="sparse_categorical_crossentropy")
        >>> x, y = np.random.default_rng(0).random((96, 4), "float32"), np.arange(96) % 3
        >>> small = compress(model, [Prune(0.5), Quantize("int8")], (x, y), batch_size=32, verbose=False)
        >>> round(float((small.model.get_weights()[0] == 0).mean()), 2), small.precision
        (0.5, 'int8')
    """
    steps = _checked(steps)
    data = _as_subset(data, model, steps)
    tuner = Tuner(model, data, batch_size, seed, verbose)
    result, skipped = _rebuilt(model, steps, tuner)
    training = [step for step in steps if isinstance(step, Training) and not isinstance(step, Rebuilding)]
    if training:
        with model.distribute_strategy.scope():
            twin = bridge.to_tf_keras(result, custom_layers)
            for step in training:
                twin, left_alone = step.apply(twin, tuner)
                skipped |= _told_by(step, left_alone)
        if isinstance(steps[-1], QuantizeAware):
            return Compressed(twin, steps, skipped, precision="int8")
        result = bridge.from_tf_keras(twin, like=result)
    quantize = steps[-1] if isinstance(steps[-1], Quantize) else None
    if quantize is None:
        return Compressed(result, steps, skipped)
    rows = data.sample(min(quantize.calibration_rows, len(data)), seed=seed)[:][0] if quantize.calibrates else None
    return Compressed(result, steps, skipped, precision=quantize.precision, calibration=rows)


def _rebuilt(model: keras.Model, steps: tuple[Step, ...], tuner: Tuner) -> tuple[keras.Model, dict[str, str]]:
    """Run the steps that change the architecture, none of them perhaps, on a copy of the model."""
    skipped: dict[str, str] = {}
    with model.distribute_strategy.scope():
        result = copied(model)
    for step in steps:
        if isinstance(step, Rebuilding):
            result, left_alone = step.rebuild(result, tuner)
            skipped |= _told_by(step, left_alone)
    return result, skipped


def _told_by(step: Step, reasons: dict[str, str]) -> dict[str, str]:
    return {name: f"{step!r}: {reason}" for name, reason in reasons.items()}


def _checked(steps: Step | Sequence[Step]) -> tuple[Step, ...]:
    steps = (steps,) if isinstance(steps, Step) else tuple(steps)
    for step in steps:
        if not isinstance(step, Step):
            raise TypeError(f"expected steps such as Prune(0.8) or Quantize('int8'), got {step!r}")
    if not steps:
        raise ValueError("the recipe is empty; name at least one step, such as Prune(0.8)")
    ordered = sorted(steps, key=lambda step: step.order)
    last = [step for step in ordered if isinstance(step, Quantize | QuantizeAware)]
    if len(last) > 1:
        ordered = [step for step in ordered if step not in last]
        raise ValueError(
            f"{list(steps)}: the exported file is quantized once, by Quantize or by QuantizeAware, which must stand "
            f"once and last; use {[*ordered, last[-1]]}"
        )
    if list(steps) != ordered:
        raise ValueError(
            f"{list(steps)}: the order is {', '.join(_ORDER)}, and last Quantize or QuantizeAware, which must stand "
            f"once and last; each step keeps what the earlier ones won, not the other way round; use {ordered}"
        )
    return steps


def _as_subset(data: Any, model: keras.Model, steps: tuple[Step, ...]) -> Subset | None:
    needing = [s for s in steps if isinstance(s, Training) or (isinstance(s, Quantize) and s.calibrates)]
    if not needing:
        return None
    if data is None:
        raise ValueError(f"{needing[0]!r} needs data; pass the training data as the third argument")
    subset = data if isinstance(data, Subset) else from_arrays(*data)
    expected = tuple(model.inputs[0].shape[1:])
    if len(subset.input_shape) != len(expected) or any(
        want not in (None, got) for want, got in zip(expected, subset.input_shape, strict=True)
    ):
        raise ValueError(f"the data has rows of shape {subset.input_shape}, the model takes {expected}")
    return subset
