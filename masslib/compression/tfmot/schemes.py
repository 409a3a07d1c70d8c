"""The quantization scheme of TFMOT that keeps, layer by layer, what earlier steps won."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING, Any

from masslib.compression.tfmot import own_kinds, support
from masslib.compression.tfmot.centroids import nearest_centroid
from masslib.compression.tfmot.toolkit import tfmot

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras


def scheme(left_alone: Collection[str], *, preserving: bool) -> Any:
    """Return a `tfmot.quantization.keras.QuantizeScheme` for a model of which some layers stay in float.

    Args:
        left_alone: Names of the layers that stay in float. TFMOT would quantize their outputs where another layer
            follows, and fail when it does not know their activation.
        preserving: Whether to look at the weights of every layer: sparse kernels are then trained by TFMOT's
            prune-preserving scheme (PQAT), clustered ones by the cluster-preserving (CQAT), sparse and clustered ones
            by the same with sparsity (PCQAT), the others by the default one. TFMOT itself takes one scheme for a
            whole model, and forgets all zeros when a single layer has none.
    """
    quantization = tfmot().quantization.keras
    default = quantization.default_8bit.Default8BitQuantizeScheme()

    class Registry(quantization.QuantizeRegistry):
        def supports(self, layer: tf_keras.layers.Layer) -> bool:
            known = own_kinds.is_quantized(layer) or default.get_quantize_registry().supports(layer)
            return layer.name not in left_alone and known

        def get_quantize_config(self, layer: tf_keras.layers.Layer) -> Any:
            kind = _kind(layer, default) if preserving else default
            config = own_kinds.quantize_config(layer, kind.get_quantize_registry())
            if preserving and hasattr(config, "weight_quantizer"):
                config.weight_quantizer = _sped_up()(config.weight_quantizer)
            return config

    class Scheme(quantization.QuantizeScheme):
        def get_layout_transformer(self) -> Any:
            return default.get_layout_transformer()

        def get_quantize_registry(self) -> Any:
            return Registry()

    return Scheme()


def output_only(quantize_output: bool = True) -> Any:
    """Return a `tfmot.quantization.keras.QuantizeConfig` that quantizes what a layer puts out at most."""
    return _output_only()(quantize_output)


def quantize_scope() -> Any:
    """Return the scope in which models of `QuantizeAware` can be copied and loaded."""
    own = {"OutputOnly": _output_only(), "Kernels": own_kinds.config_class()}
    return tfmot().quantization.keras.quantize_scope(own)


def by_role(layer: tf_keras.layers.Layer) -> dict[str, tf.Variable]:
    """Return the variables of a layer by names that are the same in every model made from one plan.

    Layers that TFMOT inserts are counted up, so their names, and those of their variables, differ by a number.
    """
    if not type(layer).__module__.startswith("tensorflow_model_optimization."):
        return {str(index): variable for index, variable in enumerate(layer.weights)}
    named = {variable.name.replace(layer.name, "").rsplit("/", 1)[-1]: variable for variable in layer.weights}
    counted = [name for name in named if re.fullmatch(r"[Vv]ariable(_\d+)?:0", name)]  # made without a name
    return {f"variable {counted.index(name)}" if name in counted else name: named[name] for name in named}


@cache
def _output_only() -> type:
    quantization = tfmot().quantization.keras

    class OutputOnly(quantization.QuantizeConfig):
        def __init__(self, quantize_output: bool = True):
            self.quantize_output = quantize_output  # TFMOT sets it to False in front of a Concatenate

        def get_weights_and_quantizers(self, layer: Any) -> list[Any]:
            return []

        def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
            return []

        def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
            pass

        def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
            pass

        def get_output_quantizers(self, layer: Any) -> list[Any]:
            if not self.quantize_output:
                return []
            return [own_kinds.moving_average()]

        def get_config(self) -> dict[str, Any]:
            return {"quantize_output": self.quantize_output}

    return OutputOnly


@cache
def _sped_up() -> type:
    """Return a quantizer that does what another one does, with `nearest_centroid` in the place of TFMOT's search."""
    slow = tfmot().clustering.keras.ClusteringAlgorithm

    class SpedUp(tfmot().quantization.keras.quantizers.Quantizer):
        def __init__(self, quantizer: Any):
            self._quantizer = quantizer

        def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
            variables = self._quantizer.build(tensor_shape, name, layer)
            found = {key: value for key, value in variables.items() if type(value) is slow}
            return variables | {key: nearest_centroid()(value.cluster_centroids) for key, value in found.items()}

        def __call__(self, inputs: Any, training: bool, weights: dict[str, Any], **options: Any) -> Any:
            return self._quantizer(inputs, training, weights, **options)

        def get_config(self) -> dict[str, Any]:
            return self._quantizer.get_config()

    return SpedUp


def _kind(layer: tf_keras.layers.Layer, default: Any) -> Any:
    combine = tfmot().experimental.combine
    if type(layer).__name__ not in support.PRESERVABLE:
        return default
    kernel = getattr(layer, support.kernel_name(layer)).numpy()
    sparse = support.is_sparse(kernel)
    if support.is_clustered(kernel):
        return combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=sparse)
    return combine.Default8BitPrunePreserveQuantizeScheme() if sparse else default
