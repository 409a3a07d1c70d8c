"""What a search tries, and in which order: families of recipes, each bisected between too gentle and too strong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from masslib.compression.clustering import Cluster
from masslib.compression.low_rank import LowRank
from masslib.compression.pruning import Prune
from masslib.compression.quantization import Quantize
from masslib.compression.quantization_aware import QuantizeAware
from masslib.compression.sensitivities import Sensitivity
from masslib.compression.step import Step

# Accuracy that a layer may lose alone and without training, at strength 0 and at strength 1.
_TOLERANCES = (0.002, 0.7)
_LEAST_SPARSITY = 0.05
_CLUSTERS = 16
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
    """

    name: str
    recipe: Callable[[float], list[Step]]
    single: bool = False


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


def families_for(objective: str, found: Sensitivity, tuning: dict[str, Any]) -> list[Family]:
    """Return the families for an objective, from gentle to strong.

    Args:
        objective: `"size"`, `"latency"` or `"flops"`.
        found: Sensitivity to sparsity of the layers that can be pruned.
        tuning: Settings of the fine-tuning, for every step that trains.
    """

    def pruned(strength: float) -> Prune:
        return Prune(sparsities(found, strength), **tuning)

    def factorized(strength: float) -> LowRank:
        return LowRank(error=0.05 + 0.9 * strength, **tuning)

    # Zeros save bytes, but neither time nor operations.
    single = [
        Family("dynamic", lambda _: [Quantize("dynamic")], single=True),
        Family("int8", lambda _: [Quantize("int8")], single=True),
    ]
    if objective != "size":
        return [
            *single,
            Family("low rank + dynamic", lambda strength: [factorized(strength), Quantize("dynamic")]),
            Family("low rank + int8", lambda strength: [factorized(strength), Quantize("int8")]),
        ]
    return [
        *single,
        Family("prune + int8", lambda strength: [pruned(strength), Quantize("int8")]),
        Family(
            "prune + cluster + QAT",
            lambda strength: [pruned(strength), Cluster(_CLUSTERS, **tuning), QuantizeAware(**tuning)],
        ),
    ]


def sparsities(found: Sensitivity, strength: float) -> dict[str, float]:
    """Return the sparsity of each layer at which all layers lose alike, more at a higher strength."""
    least, most = _TOLERANCES
    layers = found.within(least * (most / least) ** strength)
    return {name: sparsity for name, sparsity in layers.items() if sparsity >= _LEAST_SPARSITY}


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
