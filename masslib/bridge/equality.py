"""Proof that a model and its twin are the same: equal weights, equal answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from masslib.graph.nodes import named_layers
from masslib.graph.probes import probe_inputs
from masslib.graph.weights import set_weights

if TYPE_CHECKING:
    import tf_keras

# Most models agree to 1e-6. tf_keras normalizes a layer by other arithmetic, and a dense layer behind it makes 2e-5 of
# the roundings on processors without AVX-512.
TOLERANCE = 1e-4
"""Largest relative difference, max|a - b| / max|a|, that the bridge accepts between the two models."""

# How much more than a change in the last bits of the input the roundings of all layers may change the answers
_ROUNDINGS = 10


def randomize(model: keras.Model) -> None:
    """Give a model weights and statistics that tell every mistake: none of them is a fresh 0 or 1."""
    rng = np.random.default_rng(0)

    def random(weight: keras.Variable) -> np.ndarray:
        if len(weight.shape) > 1:
            return rng.normal(0, np.sqrt(2 / np.prod(weight.shape[:-1])), weight.shape)
        # Biases, scales and statistics, two of which might have been swapped.
        return rng.uniform(0.5, 1.5, weight.shape)

    for layer in named_layers(model).values():
        if layer.weights:
            set_weights(layer, [random(weight) for weight in layer.weights])


def check_answers(model: keras.Model, twin: tf_keras.Model) -> None:
    """Run both on the same random input.

    Some deep networks, such as an EfficientNetV2L with fresh weights, multiply every rounding a million times. They are
    held to what they make of a change in the last bits of the input.

    Raises:
        ValueError: If they differ by more than `TOLERANCE`, and by more than rounding explains.
    """
    inputs = probe_inputs(model, 2, seed=1)
    ours = _answers(model, inputs)
    difference = _largest_difference(ours, _answers(twin, inputs))
    if difference <= TOLERANCE:
        return
    if not _largest_difference(ours, _answers(model, inputs)) <= TOLERANCE:
        raise ValueError(f"model {model.name!r} answers at random, so nothing made of it can be compared with it")
    explained = _ROUNDINGS * _largest_difference(ours, _answers(model, keras.tree.map_structure(_nudged, inputs)))
    if not difference <= explained:
        raise ValueError(
            f"the Keras 3 and the tf_keras form of {model.name!r} disagree: relative difference "
            f"{difference:.2g}, allowed {max(TOLERANCE, explained):.1g}; please report this model"
        )


def _answers(model: Any, inputs: Any) -> list[np.ndarray]:
    return [np.asarray(answer, "float64") for answer in keras.tree.flatten(model(inputs, training=False))]


def _largest_difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    pairs = zip(ours, theirs, strict=True)
    return float(np.max([np.abs(a - b).max() / max(np.abs(a).max(), 1e-30) for a, b in pairs]))  # NaN stays NaN


def _nudged(values: np.ndarray) -> np.ndarray:
    """Change floats by the last two bits of what they can hold."""
    if not np.issubdtype(values.dtype, np.floating):
        return values
    return values * (1 + 2 * np.finfo(values.dtype).eps).astype(values.dtype)
