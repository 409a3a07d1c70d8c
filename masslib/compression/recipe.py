"""Run a recipe of compression steps on a Keras 3 model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from masslib import bridge
from masslib._util import kernels
from masslib.compression.finetune import Rebuilding, Tuner
from masslib.compression.result import Compressed
from masslib.compression.step import Step, Training
from masslib.compression.steps.distill import Distill
from masslib.compression.steps.quantize import Quantize
from masslib.compression.steps.quantize_aware import QuantizeAware
from masslib.data.passed import as_subset
from masslib.graph.checks import check_model
from masslib.graph.copying import copied
from masslib.graph.structures import inputs_in_order

if TYPE_CHECKING:
    import keras

    from masslib.data import Subset

_ORDER = ("Distill", "PruneChannels", "LowRank", "Prune", "Cluster", "Squeeze")


def compress(
    model: keras.Model,
    steps: Step | Sequence[Step],
    data: Subset | tuple[Any, ...] | None = None,
    *,
    batch_size: int = 128,
    seed: int = 0,
    verbose: bool = True,
    custom_layers: Mapping[type, Any] | None = None,
) -> Compressed:
    """Make a trained Keras 3 model smaller, step by step; the model that was passed in is not changed.

    Steps that train are fine-tuned with the optimizer, loss and strategy that the model was compiled with; where TFMOT
    trains without `use_ema`, whose averages would undo what was won. Those that
    change the architecture (`Distill`, `PruneChannels`, `LowRank`), and `Squeeze`, rebuild the Keras 3 model; for the
    others that change the weights it crosses the bridge to tf_keras, where TFMOT works, and back.

    Args:
        model: A trained and compiled Sequential or functional model. One that computes in mixed precision becomes a
            float32 one, with the weights that it has.
        steps: A step such as `Prune(0.8)`, or a list of them, applied in order: `Distill`, `PruneChannels`,
            `LowRank`, `Prune`, `Cluster`, and last either `Quantize` or `QuantizeAware`; or, for a packed file,
            `Squeeze` in the place of the last three.
        data: Training data, a `Subset` or `(x, y)` or `(x, y, sample_weight)` of arrays, taken as they are; with
            several inputs or outputs each is a dict, list or tuple of arrays, as in `keras.Model.fit`. Training steps
            and the calibration of `Quantize("int8")` need it.
        batch_size: Rows per training step, of all replicas together.
        seed: Seed of the order of the rows and of the choice of calibration rows.
        verbose: Whether to show a progress bar per training step.
        custom_layers: How layers of your own cross the bridge; see `masslib.bridge.to_tf_keras`.

    Returns:
        A `Compressed` model, ready for `masslib.export.tflite`. `Quantize` alone trains nothing: if a layer of your own
        cannot be copied, it holds the model that was passed in.

    Raises:
        TypeError: If `model`, a step or the data is of another type.
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
    kernels.warn_if_off()
    options = {"batch_size": batch_size, "seed": seed, "verbose": verbose, "custom_layers": custom_layers}
    (result,) = compress_each(model, [steps], data, **options)
    return result


def compress_each(
    model: keras.Model,
    recipes: Sequence[Step | Sequence[Step]],
    data: Subset | tuple[Any, ...] | None = None,
    *,
    batch_size: int = 128,
    seed: int = 0,
    verbose: bool = True,
    custom_layers: Mapping[type, Any] | None = None,
) -> Iterator[Compressed]:
    """Compress a model by several recipes, one after another, when the next one is asked for.

    Recipes that begin alike share the steps that they have in common, which then run once. Their results may share a
    model, too, so they are for reading only. All recipes are checked at once.

    Args:
        model: As in `compress`.
        recipes: A step or a list of steps for each result.
        data: As in `compress`.
        batch_size: As in `compress`.
        seed: As in `compress`.
        verbose: As in `compress`.
        custom_layers: As in `compress`.

    Returns:
        An iterator over a `Compressed` per recipe.

    Raises:
        TypeError: As `compress`.
        ValueError: As `compress`.
    """
    check_model(model)
    recipes = [_checked(steps) for steps in recipes]
    for steps in recipes:
        if isinstance(steps[-1], Quantize) and not isinstance(steps[0], Distill):  # whose student comes later
            steps[-1].check(model)
    data = _as_subset(data, model, [step for steps in recipes for step in steps])
    with model.distribute_strategy.scope():
        start = _start(model, trains=any(map(_trained, recipes)))
    stages = _Stages(start, Tuner(model, data, batch_size, seed, verbose), custom_layers)
    return (
        _finished(steps, *stages.run(_trained(steps), recipes[number + 1 :]), data, seed)
        for number, steps in enumerate(recipes)
    )


Stage = tuple[Any, dict[str, str]]
"""A model after some steps, and the layers that these left alone with the reason."""


class _Stages:
    """Runs the steps of recipes on a model, and keeps what later recipes begin with."""

    def __init__(self, model: keras.Model, tuner: Tuner, custom_layers: Mapping[type, Any] | None):
        self._model, self._tuner, self._custom_layers = model, tuner, custom_layers
        self._kept: list[tuple[tuple[Step, ...], Stage]] = []

    def run(self, steps: tuple[Step, ...], later: Sequence[tuple[Step, ...]]) -> Stage:
        """Return the model after the steps, none of them perhaps."""
        for known, stage in self._kept:
            if known == steps:
                return stage
        if not steps:
            return self._model, {}
        before, skipped = self.run(steps[:-1], later)
        after, left_alone = self._after(before, steps[-1])
        stage = after, skipped | {name: f"{steps[-1]!r}: {reason}" for name, reason in left_alone.items()}
        self._kept = [(known, kept) for known, kept in self._kept if _begins_any(known, later)]
        if _begins_any(steps, later):
            self._kept.append((steps, stage))
        return stage

    def _after(self, model: keras.Model, step: Training) -> Stage:
        if isinstance(step, Rebuilding):
            return step.rebuild(model, self._tuner)
        with model.distribute_strategy.scope():
            twin, left_alone = step.apply(bridge.to_tf_keras(model, self._custom_layers), self._tuner)
        if isinstance(step, QuantizeAware):
            return twin, left_alone
        return bridge.from_tf_keras(twin, like=model), left_alone


def _start(model: keras.Model, trains: bool) -> keras.Model:
    """Copy the model; where nothing trains, one with layers that cannot be copied is taken as it is."""
    try:
        return copied(model)
    except ValueError:
        if trains:
            raise
        return model


def _begins_any(steps: tuple[Step, ...], recipes: Sequence[tuple[Step, ...]]) -> bool:
    return any(recipe[: len(steps)] == steps for recipe in recipes)


def _trained(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    return tuple(step for step in steps if isinstance(step, Training))


def _finished(
    steps: tuple[Step, ...], model: Any, skipped: dict[str, str], data: Subset | None, seed: int
) -> Compressed:
    last = steps[-1]
    if isinstance(last, QuantizeAware):
        return Compressed(model, steps, skipped, precision="int8")
    if not isinstance(last, Quantize):
        return Compressed(model, steps, skipped)
    last.check(model)
    rows = data.sample(min(last.calibration_rows, len(data)), seed=seed)[:][0] if last.calibrates else None
    return Compressed(model, steps, skipped, precision=last.precision, calibration=rows)


def _checked(steps: Step | Sequence[Step]) -> tuple[Step, ...]:
    steps = (steps,) if isinstance(steps, Step | type) else tuple(steps)
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
            f"once and last; later steps preserve earlier results, not the other way round; use {ordered}"
        )
    return steps


def _as_subset(data: Any, model: keras.Model, steps: Sequence[Step]) -> Subset | None:
    needing = [s for s in steps if isinstance(s, Training) or (isinstance(s, Quantize) and s.calibrates)]
    if not needing:
        return None
    if data is None:
        raise ValueError(f"{needing[0]!r} needs data; pass the training data as the third argument")
    subset = as_subset(data)
    for tensor, array in zip(model.inputs, inputs_in_order(model, subset[:1][0]), strict=True):
        expected, found = tuple(tensor.shape[1:]), array.shape[1:]
        shapes = (found, (*found, 1), found[:-1] if found[-1:] == (1,) else found)  # as Keras adapts them
        if not any(_fits(shape, expected) for shape in shapes[: 1 if len(model.inputs) == 1 else 3]):
            of = "" if len(model.inputs) == 1 else f" for the input {tensor.name!r}"
            raise ValueError(f"the data has rows of shape {found}{of}, the model takes {expected}")
    return subset


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(want in (None, got) for want, got in zip(expected, shape, strict=True))
