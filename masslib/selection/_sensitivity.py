"""How much each layer can lose by itself: a metric against sparsity, rank or bits, without any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from masslib._util.mapping import called
from masslib._util.progress import bar
from masslib._util.quiet import quiet
from masslib.compression.tfmot import support
from masslib.data.rows import nested
from masslib.evaluation.outputs import output_names
from masslib.evaluation.tasks import compiled_options
from masslib.graph.copying import copied
from masslib.graph.nodes import named_layers
from masslib.graph.structures import inputs_in_order
from masslib.selection.metric import Metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from masslib.data import Subset

# From gentle to strong
_LEVELS: dict[str, tuple[float, ...]] = {
    "sparsity": (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98),
    "rank": (0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02),
    "bits": (8, 6, 5, 4, 3, 2),
}


@dataclass(frozen=True, repr=False)
class Sensitivity:
    """What `sensitivity` returns; the last value of a notebook cell shows its table.

    Attributes:
        technique: `"sparsity"`, `"rank"` or `"bits"`.
        baseline: Accuracy of the model as it is, a fraction, or another metric.
        table: The same when one layer alone is treated: one row per layer, one column per level.
        weights: Layer -> number of weights in its kernel.
        metric: Name of the metric.
        larger_is_better: Whether large values of it are good.
    """

    technique: str
    baseline: float
    table: pd.DataFrame
    weights: dict[str, int]
    metric: str = "accuracy"
    larger_is_better: bool = True

    def within(self, max_drop: float) -> dict[str, float]:
        """Return how far each layer can go alone, without training, before the metric loses more than `max_drop`.

        Between two levels the metric is taken to fall on a straight line, and never to rise again.

        Args:
            max_drop: The accepted loss: of accuracy a fraction, 0.01 being a percentage point.

        Returns:
            Layer -> level. Layers that cannot go at all are left out. For `"sparsity"` it is what
            `masslib.Prune` takes.

        Example:
            >>> import pandas as pd
            >>> table = pd.DataFrame({0.5: [0.9, 0.9], 0.9: [0.9, 0.5]}, index=["dense", "conv"])
            >>> Sensitivity("sparsity", 0.9, table, {}).within(0.1)
            {'dense': 0.9, 'conv': 0.6}
        """
        untouched = {"sparsity": 0.0, "rank": 1.0, "bits": 32.0}[self.technique]
        levels = np.array([untouched, *self.table.columns])
        found, sign = {}, 1 if self.larger_is_better else -1
        for name, row in self.table.iterrows():
            lost = sign * self.baseline - np.minimum.accumulate(sign * np.array([self.baseline, *row]))
            level = float(np.interp(max_drop, lost, levels)) if max_drop > 0 else untouched
            # np.interp takes the first of several levels with the same loss; the last is meant.
            level = max(level, *levels[lost <= max_drop], key=lambda it: abs(it - untouched))
            level = float(np.ceil(round(level, 6))) if self.technique == "bits" else round(float(level), 3)
            if level != untouched:
                found[str(name)] = level
        return found

    def plot(self) -> Figure:
        """Draw one curve per layer."""
        from masslib import plot

        small = not self.larger_is_better
        return plot.sensitivity(self.table, self.baseline, self.technique, metric=self.metric, small_is_good=small)

    def __repr__(self) -> str:
        return f"{self._title()}\n{self.table.to_string(float_format='{:.4f}'.format)}"

    def _repr_html_(self) -> str:
        return f"<p>{self._title()}</p>{self.table.to_html(float_format='{:.4f}'.format, border=0)}"

    def _title(self) -> str:
        return f"{self.metric} of one layer at a time at each level of {self.technique}; untouched: {self.baseline:.4f}"


def sensitivity(
    model: keras.Model,
    split: Subset | tuple[np.ndarray, np.ndarray],
    technique: str = "sparsity",
    *,
    levels: Sequence[float] | None = None,
    layers: Sequence[str] | None = None,
    metric: Any = "accuracy",
    batch_size: int = 512,
    verbose: bool = True,
    on: Any = None,
) -> Sensitivity:
    """Measure what a metric loses when one layer alone is pruned, factorized or quantized; nothing is trained.

    It tells where the weights are that a model can spare. Fine-tuning wins most of a loss back, so that layers can go
    further than their curves say; their order stays (Li et al., "Pruning filters for efficient ConvNets", 2017).

    - `"sparsity"`: that fraction of the weights of a kernel, the smallest, become zero.
    - `"rank"`: the kernel, as a matrix (inputs, outputs), keeps that fraction of its singular values (truncated SVD).
    - `"bits"`: the weights are rounded to so many bits, symmetrically, with a scale per output channel.

    Args:
        model: A trained Sequential or functional Keras 3 model. It is not changed.
        split: Rows to measure on: the validation split, or a sample of it such as `splits.valid.sample(2000)`.
        technique: `"sparsity"`, `"rank"` or `"bits"`.
        levels: What to try; by default sparsities from 0.5 to 0.98, ranks from 0.5 to 0.02, bits from 8 to 2.
        layers: Names of the layers to try (`outer/inner` in nested models); by default all that have a kernel.
        metric: The name of a figure of `masslib.evaluate`, a weighted sum, a function, or a `masslib.selection.Metric`.
        batch_size: Rows per batch.
        verbose: Whether to show a progress bar, where the layers are tried in turn.
        on: Where the layers are tried: None for this process, one after another; or side by side by a
            `concurrent.futures.Executor`, a `SparkSession`, `"ray"` or the address of a Ray cluster, or anything that
            maps, `on(fn, jobs)`. The model, which Keras must be able to save and load there, and the rows travel.

    Returns:
        A `Sensitivity`.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If the technique, a level or a layer is unknown, or the model is not judged by the metric.

    Example:
        >>> import masslib
        >>> splits = masslib.data.load("digits")
        >>> model = masslib.models.mlp(splits.input_shape, splits.num_classes)
        >>> found = masslib.sensitivity(model, splits.valid, levels=[0.5, 0.9], verbose=False)
        >>> found.table.shape
        (3, 2)
    """
    levels = _checked_levels(technique, levels)
    if not isinstance(model, keras.Model):
        raise TypeError(f"expected a Keras 3 model, got {type(model).__name__}; of a Compressed pass its .model")
    copy = copied(model)
    kernels = _kernels(copy, technique, layers)
    metric = Metric.of(metric)
    if on is not None:
        measure = partial(sensitivity, model, split, technique, levels=levels, metric=metric, batch_size=batch_size)
        return _together(called([partial(measure, layers=[name], verbose=False) for name in kernels], on))
    judge = _Judge(copy, split, metric, compiled_options(model) | {"batch_size": batch_size})
    baseline, rows = judge.score(), {}
    with bar(
        title=f"sensitivity to {technique}", unit="level", visible=verbose, total=len(kernels) * len(levels)
    ) as shown:
        for name, kernel in kernels.items():
            original = kernel.numpy()
            treated = _TECHNIQUES[technique](original)
            rows[name] = []
            for level in levels:
                kernel.assign(treated(level).astype(original.dtype))
                rows[name].append(judge.score())
                shown.update()
            kernel.assign(original)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=levels).rename_axis(columns=technique)
    weights = {name: int(np.prod(kernel.shape)) for name, kernel in kernels.items()}
    return Sensitivity(technique, baseline, table, weights, metric.name, metric.larger_is_better)


def _together(parts: list[Sensitivity]) -> Sensitivity:
    """What was measured of one layer each."""
    weights = {name: count for part in parts for name, count in part.weights.items()}
    return replace(parts[0], table=pd.concat([part.table for part in parts]), weights=weights)


class _Judge:
    """Evaluates the model as its weights are now, by one traced function."""

    def __init__(self, model: keras.Model, split: Any, metric: Metric, told: dict[str, Any]):
        self._model = model
        self._run = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
        self._split, self._metric, self._told = split, metric, told
        self.output_names = output_names(model)

    def predict(self, x: Any, batch_size: int) -> Any:
        inputs_in_order(self._model, x)  # says which inputs are missing
        rows = len(keras.tree.flatten(x)[0])
        # Quiet, because TensorFlow takes one function per model for one that is traced again and again.
        with quiet():
            parts = [
                keras.tree.map_structure(np.asarray, self._run(nested(itemgetter(slice(i, i + batch_size)), x)))
                for i in range(0, rows, batch_size)
            ]
        return keras.tree.map_structure(lambda *them: np.concatenate(them), *parts)

    def score(self) -> float:
        return self._metric.score(self, self._split, self._told).value


def _pruned(kernel: np.ndarray) -> Callable[[float], np.ndarray]:
    order = np.argsort(np.abs(kernel), axis=None, kind="stable")

    def at(level: float) -> np.ndarray:
        result = kernel.copy()
        result.flat[order[: round(level * kernel.size)]] = 0
        return result

    return at


def _factorized(kernel: np.ndarray) -> Callable[[float], np.ndarray]:
    matrix = kernel.reshape(-1, kernel.shape[-1]).astype("float64")
    tall = matrix.shape[0] >= matrix.shape[1]
    # The singular vectors of the shorter side, many times faster than by a whole decomposition.
    _, vectors = np.linalg.eigh(matrix.T @ matrix if tall else matrix @ matrix.T)

    def at(level: float) -> np.ndarray:
        kept = vectors[:, -max(1, round(level * len(vectors))) :]  # the largest stand last
        cut = matrix @ kept @ kept.T if tall else kept @ (kept.T @ matrix)
        return cut.reshape(kernel.shape)

    return at


def _rounded(kernel: np.ndarray) -> Callable[[float], np.ndarray]:
    largest = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)), keepdims=True)

    def at(level: float) -> np.ndarray:
        scale = np.maximum(largest / (2 ** (int(level) - 1) - 1), 1e-30)
        return np.round(kernel / scale) * scale

    return at


_TECHNIQUES: dict[str, Callable[[np.ndarray], Callable[[float], np.ndarray]]] = {
    "sparsity": _pruned,
    "rank": _factorized,
    "bits": _rounded,
}


def _checked_levels(technique: str, levels: Sequence[float] | None) -> list[float]:
    if technique not in _TECHNIQUES:
        raise ValueError(f"technique={technique!r}: expected one of {', '.join(map(repr, _TECHNIQUES))}")
    levels = list(_LEVELS[technique] if levels is None else levels)
    if technique == "bits":
        wrong = [level for level in levels if level not in range(2, 17)]
        expected = "whole numbers of bits from 2 to 16"
    else:
        wrong = [level for level in levels if not 0 < level < 1]
        expected = "fractions above 0 and below 1"
    if wrong or not levels:
        raise ValueError(f"levels={levels}: expected {expected}")
    return sorted(levels, reverse=technique != "sparsity")


def _kernels(model: keras.Model, technique: str, layers: Sequence[str] | None) -> dict[str, Any]:
    """The variables to treat, by the names of their layers."""
    found = {
        name: getattr(layer, support.kernel_name(layer))
        for name, layer in named_layers(model).items()
        if layer.weights and support.kernel_name(layer)
    }
    if technique == "rank":
        found = {
            name: kernel for name, kernel in found.items() if min(np.prod(kernel.shape[:-1]), kernel.shape[-1]) > 1
        }
    unknown = [name for name in layers or () if name not in found]
    if unknown or not found:
        raise ValueError(
            f"layers={unknown}: the layers whose {technique} can be changed are {', '.join(found) or 'none'}"
        )
    return {name: found[name] for name in layers} if layers else found
