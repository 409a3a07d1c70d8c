"""Layers that TFMOT's registries do not list, treated by the mechanisms that TFMOT has for layers of one's own."""

from __future__ import annotations

import operator
from functools import cache
from typing import Any

import tf_keras

from masslib.compression.tfmot.toolkit import tfmot

# Layer -> what becomes int8, and the activation behind which a range is learned.
_QUANTIZED: dict[str, tuple[list[str], list[str]]] = {"Embedding": (["embeddings"], [])}
LIKE_DENSE = ("EinsumDense", "Conv1D")
"""Layers whose kernel and activation TFMOT treats as those of a dense layer."""
# Operations of Keras 3, and layers, that int8 has and that need a range for what they put out, such as q k^T.
_RANGED = ("Einsum", "Matmul", "Multiply", "Add", "Subtract", "Softmax")


def kind(layer: tf_keras.layers.Layer) -> str:
    """The type of a layer, or of what is carried in it."""
    return getattr(layer, "kind", type(layer).__name__)


def is_quantized(layer: tf_keras.layers.Layer) -> bool:
    """Tell whether a layer that TFMOT's registry lacks can be quantized."""
    return type(layer).__name__ in (*_QUANTIZED, *LIKE_DENSE)


def is_ranged(layer: tf_keras.layers.Layer) -> bool:
    """Tell whether a layer, or an operation that is carried, gets nothing but a range for what it puts out."""
    return kind(layer) in _RANGED and (hasattr(layer, "carried") or kind(layer) == "Softmax")


def quantize_config(layer: tf_keras.layers.Layer, registry: Any) -> Any:
    """Return the `tfmot.quantization.keras.QuantizeConfig` of a layer, by TFMOT's registry where that knows it."""
    name = type(layer).__name__
    if name in _QUANTIZED:
        return config_class()(*_QUANTIZED[name])
    if name in LIKE_DENSE:
        layer = tf_keras.layers.Dense(1)
        layer.build((None, 1))  # without weights there would be nothing to preserve
    return registry.get_quantize_config(layer)


def prunable(layer: tf_keras.layers.Layer, kernel: str) -> tf_keras.layers.Layer:
    """Tell TFMOT, if it does not know the layer, which of its weights to prune; return the layer."""
    registry = tfmot().sparsity.keras
    if not isinstance(layer, registry.PrunableLayer) and type(layer).__name__ == "EinsumDense":
        layer.get_prunable_weights = lambda: [getattr(layer, kernel)]
    return layer


@cache
def config_class() -> type:
    """Return the class of `quantize_config`, made at the first call, which imports TFMOT."""
    quantization = tfmot().quantization.keras

    class Kernels(quantization.QuantizeConfig):
        def __init__(self, weights: list[str], activations: list[str]):
            self.weights, self.activations = list(weights), list(activations)

        def get_weights_and_quantizers(self, layer: Any) -> list[Any]:
            return [(operator.attrgetter(name)(layer), _last_value()) for name in self.weights]

        def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
            return [(getattr(layer, name), moving_average()) for name in self.activations]

        def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
            for name, weight in zip(self.weights, quantize_weights, strict=True):
                *owner, last = name.split(".")
                setattr(operator.attrgetter(".".join(owner))(layer) if owner else layer, last, weight)

        def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
            for name, activation in zip(self.activations, quantize_activations, strict=True):
                setattr(layer, name, activation)

        def get_output_quantizers(self, layer: Any) -> list[Any]:
            return []

        def get_config(self) -> dict[str, Any]:
            return {"weights": self.weights, "activations": self.activations}

    return Kernels


def moving_average() -> Any:
    """Return the quantizer that TFMOT takes for activations."""
    return tfmot().quantization.keras.quantizers.MovingAverageQuantizer(
        num_bits=8, per_axis=False, symmetric=False, narrow_range=False
    )


def _last_value() -> Any:
    return tfmot().quantization.keras.quantizers.LastValueQuantizer(
        num_bits=8, per_axis=False, symmetric=True, narrow_range=True
    )
