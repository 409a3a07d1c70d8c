"""What a search tries, and in which order: families of recipes, each bisected between too gentle and too strong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from masslib.compression.step import Step
from masslib.compression.steps.cluster import Cluster
from masslib.compression.steps.low_rank import LowRank
from masslib.compression.steps.prune import Prune
from masslib.compression.steps.prune_channels import PruneChannels
from masslib.compression.steps.quantize import Quantize
from masslib.compression.steps.quantize_aware import QuantizeAware
from masslib.compression.steps.squeeze import Squeeze
from masslib.selection._sensitivity import Sensitivity

# Accuracy that a layer may lose alone and without training, at strength 0 and at strength 1.
_TOLERANCES = (0.002, 0.7)
_LEAST_SPARSITY = 0.05
_CLUSTERS = 16
# What a bit costs, at strength 0 and at strength 1
_LEAST_RATE, _MOST_RATE = 0.03, 30.0
_START = 0.5
# Families whose gentlest failure and strongest success are closer than this are done.
_PRECISION = 1 / 20


@dataclass(frozen=True)
class Family:
    """Recipes that differ by their strength alone, a number from 0 to 1; or a single recipe.

    Attributes:
        name: For the table.
        recipe: Makes the steps from a strength.
        single: Whether the strength does not matter.
        by_layer: Whether the recipe asks what each layer may lose by itself.
    """

    name: str
    recipe: Callable[[float], list[Step]]
    single: bool = False
    by_layer: bool = False


@dataclass(frozen=True)
class Candidate:
    """One recipe to try."""

    family: Family
    strength: float

    @property
    def name(self) -> str:
        """The name of the family, with the strength in per cent."""
        return self.family.name if self.family.single else f"{self.family.name} @ {100 * self.strength:.3g} %"

    @property
    def steps(self) -> list[Step]:
        """The recipe."""
        return self.family.recipe(self.strength)


class Tried(Protocol):
    """What the order depends on; `Trial` is one."""

    family: str
    strength: float
    accepted: bool
    score: tuple[float, ...]


def families_for(objective: str, found: Sensitivity | None, tuning: dict[str, Any]) -> list[Family]:
    """Return the families for an objective, from gentle to strong.

    Args:
        objective: `"size"`, `"packed"`, `"latency"` or `"flops"`.
        found: Sensitivity to sparsity of the layers that can be pruned; None if no recipe by layer will be made.
        tuning: Settings of the fine-tuning, for every step that trains.
    """

    def globally(strength: float) -> Prune:
        return Prune(round(1 - _kept(strength), 4), scope="global", min_share=0, **tuning)

    def by_layer(strength: float) -> Prune:
        return Prune(sparsities(found, strength), **tuning)

    def trained(pruning: Prune) -> list[Step]:
        return [pruning, Cluster(_CLUSTERS, **tuning), QuantizeAware(**tuning)]

    def channels(strength: float) -> PruneChannels:
        return PruneChannels(0.05 + 0.9 * strength, **tuning)

    def factorized(strength: float) -> LowRank:
        return LowRank(error=0.05 + 0.9 * strength, **tuning)

    def squeezed(strength: float) -> Squeeze:
        return Squeeze(round(_LEAST_RATE * (_MOST_RATE / _LEAST_RATE) ** strength, 4), **tuning)

    dynamic, int8 = Quantize("dynamic"), Quantize("int8")
    quantized = [Family("dynamic", lambda _: [dynamic], single=True), Family("int8", lambda _: [int8], single=True)]
    if objective == "size":
        return [
            *quantized,
            Family("prune + int8", lambda strength: [globally(strength), int8]),
            Family("prune by layer + cluster + QAT", lambda strength: trained(by_layer(strength)), by_layer=True),
            Family("prune + cluster + QAT", lambda strength: trained(globally(strength))),
        ]
    if objective == "packed":
        return [
            *quantized,
            Family("squeeze", lambda strength: [squeezed(strength)]),
            Family(
                "prune by layer + squeeze", lambda strength: [by_layer(strength), squeezed(strength)], by_layer=True
            ),
            Family("prune + squeeze", lambda strength: [globally(strength), squeezed(strength)]),
        ]
    # Zeros save bytes, but neither time nor operations.
    return [
        *quantized,
        Family("low rank + dynamic", lambda strength: [factorized(strength), dynamic]),
        Family("channels + dynamic", lambda strength: [channels(strength), dynamic]),
        Family("channels + int8", lambda strength: [channels(strength), int8]),
    ]


def sparsities(found: Sensitivity, strength: float) -> dict[str, float]:
    """Return the sparsity of each layer, higher at a higher strength.

    A layer may lose the more accuracy the more weights it has to give: in proportion to the root of their number.
    """
    least, most = _TOLERANCES
    tolerance, largest = least * (most / least) ** strength, max(found.weights.values())
    result = {}
    for name, weights in found.weights.items():
        sparsity = found.within(tolerance * (weights / largest) ** 0.5).get(name, 0)
        if sparsity >= _LEAST_SPARSITY:
            result[name] = sparsity
    return result


def _kept(strength: float) -> float:
    """The fraction of the weights that stays: half of them at strength 0, and 1 in 200 at strength 1."""
    return 0.5 * 0.01**strength


def next_candidate(families: Sequence[Family], trials: Sequence[Tried]) -> Candidate | None:
    """Return what to try next, which depends on nothing but the trials so far, or None when nothing is left.

    Every family is tried once. Then the one that holds the best accepted trial is bisected: half-way between its
    strongest success and its gentlest failure; when these are close, the next best. Families without a success take
    turns, the strongest first.
    """
    best = {family.name: (float("inf"),) for family in families}
    for trial in trials:
        if trial.accepted:
            best[trial.family] = min(best[trial.family], trial.score)
    for family in families:
        if not any(trial.family == family.name for trial in trials):
            return Candidate(family, _START)
    made = {family.name: [trial for trial in trials if trial.family == family.name] for family in families}
    order = sorted(range(len(families)), key=lambda i: (best[families[i].name], len(made[families[i].name]), -i))
    for family in (families[i] for i in order):
        own = made[family.name]
        low = max((trial.strength for trial in own if trial.accepted), default=0.0)
        high = min((trial.strength for trial in own if not trial.accepted), default=1.0)
        if not family.single and high - low > _PRECISION:
            return Candidate(family, (low + high) / 2)
    return None
