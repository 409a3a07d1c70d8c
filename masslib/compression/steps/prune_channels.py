"""Pruning of channels: filters and units that matter least are taken out, and the model becomes a smaller one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from masslib.compression.finetune import Rebuilding, Tuner
from masslib.compression.step import split
from masslib.compression.steps.heads import ATTENTION, head_norms, heads, why_no_heads, with_heads
from masslib.compression.steps.per_layer import narrowed, value_of, values_of
from masslib.compression.tfmot import support
from masslib.graph.channels import FOLLOWERS, PRODUCERS, Channels
from masslib.graph.layers import settings
from masslib.graph.nodes import named_layers
from masslib.graph.rebuilding import rebuilt
from masslib.graph.unfolding import unfolded

_IMPORTANCES = ("l1", "l2", "bn")


@dataclass(frozen=True, repr=False)
class PruneChannels(Rebuilding):
    """Remove filters of convolutions and units of dense layers, and fine-tune the smaller model.

    Unlike the zeros of `Prune` they are gone: the model is smaller and faster in every format, without help of a
    compressor or of sparse kernels. The filters with the smallest norm go (Li et al., "Pruning filters for efficient
    convnets", 2017).

    What follows a layer loses the same channels: batch normalization, activations, pooling, dropout, depthwise
    convolutions, and the inputs of the next layers, also behind Flatten and Concatenate. Layers whose outputs are
    added up (residual connections, squeeze-excite) lose the same channels together, those of the smallest norm on
    average. A layer is left alone, and reported as skipped, if it computes outputs of the model, or if its channels
    reach a layer that needs all of them, such as LayerNormalization, attention or a layer of your own.

    Of an attention (`MultiHeadAttention`, `GroupQueryAttention`) that fraction of the heads goes, those with the
    smallest norm of all their kernels; heads that share keys and values go together.

    A removed channel that always was zero changes nothing. Of others the answers lose what they contributed: also the
    constant that the `beta` of a batch normalization sends through an activation. Fine-tuning makes up for it, so
    give it some hundred steps or more.

    Args:
        fraction: Fraction of the channels to remove from each layer, above 0 and below 1, rounded down; one channel
            always stays. A dict from names of layers to their fractions leaves all others alone, but for those that
            are coupled with a named one.
        importance: What ranks the channels: `"l1"` or `"l2"`, the norm of their weights, or `"bn"`, the scale that the
            batch normalization behind them has learnt (Liu et al., "Network slimming", 2017); layers without one are
            ranked by their L1 norm then.
        epochs: Passes over the data.
        max_steps: Upper limit of the training steps (batches), whatever the epochs.
        learning_rate: Of the fine-tuning; that of the model's own optimizer if absent.

    Raises:
        ValueError: If a fraction is outside (0, 1) or the importance is unknown.

    Example:
        >>> PruneChannels(0.5, max_steps=400)
        PruneChannels(0.5, max_steps=400)
    """

    order = 1

    fraction: float | Mapping[str, float]
    importance: str = "l1"

    def __post_init__(self) -> None:
        super().__post_init__()
        for fraction in values_of(self.fraction):
            if not isinstance(fraction, int | float) or not 0 < fraction < 1:
                raise ValueError(
                    f"PruneChannels(fraction={self.fraction!r}): expected a fraction above 0 and below 1, such as 0.5 "
                    "for half of the channels, or a dict of them by layer"
                )
        if self.importance not in _IMPORTANCES:
            raise ValueError(
                f"PruneChannels(importance={self.importance!r}): expected one of {', '.join(map(repr, _IMPORTANCES))}"
            )

    def rebuild(self, model: keras.Model, tuner: Tuner) -> tuple[keras.Model, dict[str, str]]:
        """Return a model with fewer channels, fine-tuned, and the layers left alone with the reason."""
        # What is inside of layers of layers is pruned too, and makes a model of them; an attention stays one.
        view = unfolded(model, ATTENTION)
        channels = Channels(view)
        attentions = {name: layer for name, layer in named_layers(view).items() if isinstance(layer, ATTENTION)}
        reasons = narrowed(self, self.fraction, _reasons(view, channels) | dict.fromkeys(attentions, ""))
        attentions = {name: layer for name, layer in attentions.items() if not reasons[name]}
        reasons |= {n: why_no_heads(layer, value_of(self.fraction, n)) for n, layer in attentions.items()}
        removed = self._removed(view, channels, reasons)
        for name, own in channels.producers.items():
            if np.isin(channels.group[own], removed).any():
                reasons[name] = ""  # perhaps it is not named, but coupled with one that is
            elif not reasons[name]:
                reasons[name] = f"{value_of(self.fraction, name):.0%} of its {len(own)} channels are less than one"
        chosen, skipped = split(self, reasons)

        def narrower(layer: keras.layers.Layer, name: str) -> Any:
            if name in attentions and name in chosen:
                return self._with_fewer_heads(layer, name)
            return _narrower(layer, name, channels, removed)

        with model.distribute_strategy.scope():
            touched = chosen | {
                n for n, ends in channels.ends.items() if any(np.isin(end, removed).any() for end in ends)
            }
            result = rebuilt(model if touched <= named_layers(model).keys() else view, narrower)
        tuner.fit_rebuilt(result, self)
        return result, skipped

    def _with_fewer_heads(self, layer: keras.layers.Layer, name: str) -> list[tuple[keras.layers.Layer, Any]]:
        removed = int(value_of(self.fraction, name) * heads(layer) + 1e-9)
        order = np.argsort(head_norms(layer, 2 if self.importance == "l2" else 1), kind="stable")
        return [with_heads(layer, np.sort(order[min(removed, heads(layer) - 1) :]))]

    def _removed(self, model: keras.Model, channels: Channels, reasons: dict[str, str]) -> np.ndarray:
        """Choose the groups of channels to remove."""
        score = self._score(model, channels)
        removed: list[int] = []
        for coupled in _coupled(channels):
            named = {value_of(self.fraction, name) for name in coupled if not reasons[name]}
            if len(named) > 1:
                raise ValueError(
                    f"{self!r} gives {', '.join(coupled)} different fractions; they are coupled and lose the same "
                    "channels, so name one of them only"
                )
            if named:
                removed += _lowest(channels, coupled, score, named.pop())
        return np.array(removed, int)

    def _score(self, model: keras.Model, channels: Channels) -> np.ndarray:
        """Return group -> importance, relative to the other channels of its layers."""
        sums, counts = np.zeros(len(channels.group)), np.zeros(len(channels.group))
        for name, values in self._importances(model, channels):
            groups = channels.group[channels.ends[name][1]]
            # A layer counts less if another says more of its channels.
            np.add.at(sums, groups, values / max(values.mean(), np.finfo(float).tiny))
            np.add.at(counts, groups, 1)
        return sums / np.maximum(counts, 1)

    def _importances(self, model: keras.Model, channels: Channels) -> Iterator[tuple[str, np.ndarray]]:
        scaled: set[int] = set()
        for name, layer in named_layers(model).items():
            normalizes = type(layer).__name__ == "BatchNormalization" and name in channels.ends
            if self.importance == "bn" and normalizes and layer.scale:
                scaled |= set(channels.group[channels.ends[name][1]].tolist())
                yield name, np.abs(np.asarray(layer.gamma, float))
        for name, layer in named_layers(model).items():
            if name in channels.producers and not scaled & set(channels.group[channels.producers[name]].tolist()):
                yield name, _norms(layer, 2 if self.importance == "l2" else 1)


def _reasons(model: keras.Model, channels: Channels) -> dict[str, str]:
    """Tell of every layer that computes channels whether some can be removed."""
    reasons: dict[str, str] = {}
    for name, layer in named_layers(model).items():
        if name in channels.producers:
            groups = channels.group[channels.producers[name]].tolist()
            free = any(group not in channels.fixed for group in groups)
            reasons[name] = "" if free else channels.fixed[groups[0]]
        elif support.kernel_name(layer) and type(layer).__name__ not in FOLLOWERS:
            reasons[name] = f"layers of type {type(layer).__name__} keep all of their channels"
            if getattr(layer, "groups", 1) > 1:
                reasons[name] = f"its {layer.groups} groups keep all of their channels"
    return reasons


def _coupled(channels: Channels) -> list[list[str]]:
    """Return the names of the layers that have groups of channels in common."""
    found: list[tuple[set[int], list[str]]] = []
    for name, own in channels.producers.items():
        groups, names = set(channels.group[own].tolist()), [name]
        for other in [other for other in found if other[0] & groups]:
            found.remove(other)
            groups, names = groups | other[0], other[1] + names
        found.append((groups, names))
    return [names for _, names in found]


def _lowest(channels: Channels, coupled: list[str], score: np.ndarray, fraction: float) -> list[int]:
    """Return the groups of the lowest score in layers that are coupled; each layer keeps one channel."""
    own = {name: channels.group[channels.producers[name]] for name in coupled}
    free = np.setdiff1d(np.concatenate(list(own.values())), list(channels.fixed))
    # 0.29 of 100 are 28.999999999999996.
    wanted = int(fraction * len(free) + 1e-9)
    left = {name: len(groups) for name, groups in own.items()}
    removed: list[int] = []
    for group in free[np.argsort(score[free], kind="stable")].tolist():
        losses = {name: int((groups == group).sum()) for name, groups in own.items()}
        if len(removed) < wanted and all(left[name] > loss for name, loss in losses.items()):
            removed.append(group)
            left = {name: left[name] - loss for name, loss in losses.items()}
    return removed


def _norms(layer: keras.layers.Layer, power: int) -> np.ndarray:
    """Return the norm of the weights of each channel that comes out."""
    *_, (name, (_, axis)) = [item for item in PRODUCERS[type(layer).__name__].items() if "kernel" in item[0]]
    kernel = np.moveaxis(np.asarray(getattr(layer, name), float), axis, 0)
    return np.linalg.norm(kernel.reshape(len(kernel), -1), power, axis=1)


def _narrower(layer: keras.layers.Layer, name: str, channels: Channels, removed: np.ndarray) -> Any:
    """Return the layer without the removed channels, and its weights; None if it loses none."""
    if name not in channels.ends:
        return None
    incoming, outgoing = (~np.isin(channels.group[side], removed) for side in channels.ends[name])
    if incoming.all() and outgoing.all():
        return None
    kind, config = type(layer).__name__, settings(layer)
    sizes = {"units": int(outgoing.sum()), "filters": int(outgoing.sum())} if kind in PRODUCERS else {}
    if kind == "Reshape" and config["target_shape"][-1] != -1:
        sizes = {"target_shape": (*config["target_shape"][:-1], int(outgoing.sum()))}
    axes = {**PRODUCERS, **FOLLOWERS}.get(kind, {})
    weights = []
    for variable, weight in zip(layer.weights, layer.get_weights(), strict=True):
        for axis, kept in zip(axes[variable.name], (incoming, outgoing), strict=True):
            weight = _without(weight, axis, kept)
        _check_fits(variable, weight)
        weights.append(weight)
    changed = {key: size for key, size in sizes.items() if key in config}
    return [(type(layer).from_config(config | changed), weights)]


def _check_fits(variable: Any, weight: np.ndarray) -> None:
    """Raise unless regularizer and constraint of a variable, which may be of the user, take fewer channels."""
    for kind in ("regularizer", "constraint"):
        function = getattr(variable, kind)
        if function is None or type(function).__module__.startswith("keras."):
            continue
        try:
            fits = np.shape(function(keras.ops.convert_to_tensor(weight))) in ((), weight.shape)
        except Exception:  # whatever a function of the user raises
            fits = False
        if not fits:
            raise ValueError(
                f"PruneChannels: the {kind} of {variable.path!r} does not take a weight of shape {weight.shape}, only "
                f"{tuple(variable.shape)}; leave the layer out, or remove the {kind}"
            )


def _without(weight: np.ndarray, axis: int | None, kept: np.ndarray) -> np.ndarray:
    if axis is None or (weight.shape[axis] == 1 and len(kept) > 1):  # shared by all channels, as in PReLU
        return weight
    # Behind a depthwise kernel with a multiplier every channel comes several times.
    return np.compress(np.repeat(kept, weight.shape[axis] // len(kept)), weight, axis)
