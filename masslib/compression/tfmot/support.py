"""Which layers of a model each technique can treat, and why not.

The steps of a recipe and `diagnose` ask the same functions. Each returns name -> reason, with an empty reason for
the layers that will be treated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from masslib.compression.tfmot import own_kinds
from masslib.compression.tfmot.own_kinds import kind
from masslib.compression.tfmot.toolkit import tfmot
from masslib.graph.nodes import named_layers

if TYPE_CHECKING:
    import keras
    import tf_keras

MIN_SHARE = 0.01
"""Layers that hold less of the weights of a model would save nothing, and cost most of the accuracy."""

_KERNELS = ("kernel", "pointwise_kernel", "depthwise_kernel", "embeddings")
# What TFMOT's quantization-aware activations know; the rest has no quantized form.
_ACTIVATIONS = {"linear", "relu", "softmax", "sigmoid", "tanh", "swish", "gelu"}
PRESERVABLE = ("Conv2D", "Dense", *own_kinds.LIKE_DENSE)
"""Layers whose zeros and clusters TFMOT can keep while it trains them for quantization."""

_FACTORIZABLE = ("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D")
_FOLDABLE = ("Conv2D", "DepthwiseConv2D", "Dense")
_SMALL = "holds {share:.2%} of the weights, less than min_share={min_share:.2%}"


def kernel_name(layer: tf_keras.layers.Layer) -> str | None:
    """Return the attribute that holds most of the weights of a layer, or None if it has no kernel."""
    return next((name for name in _KERNELS if hasattr(layer, name)), None)


def prunable(twin: tf_keras.Model, min_share: float = MIN_SHARE) -> dict[str, str]:
    """Tell of every layer with a kernel whether it can be pruned."""
    prune = tfmot().sparsity.keras.prune_low_magnitude
    return _with_kernels(twin, min_share, lambda layer: prune(own_kinds.prunable(layer, kernel_name(layer))))


def clusterable(twin: tf_keras.Model, min_share: float = MIN_SHARE) -> dict[str, str]:
    """Tell of every layer with a kernel whether it can be clustered."""
    cluster_weights = tfmot().clustering.keras.cluster_weights

    def wrap(layer: tf_keras.layers.Layer) -> None:
        if type(layer).__name__ != "EinsumDense":  # others are clustered by what the registry says of their shapes
            cluster_weights(layer, number_of_clusters=3)

    return _with_kernels(twin, min_share, wrap)


def quantizable(twin: tf_keras.Model) -> dict[str, str]:
    """Tell of every layer but the inputs whether it can be trained for quantization."""
    registry = tfmot().quantization.keras.default_8bit.Default8BitQuantizeRegistry()
    graph = _Graph(twin)
    reasons = {
        layer.name: _why_not_quantized(layer, registry, graph)
        for layer in twin.layers
        if type(layer).__name__ != "InputLayer"
    }
    for norm, layer in folded(twin).items():
        if reasons[layer] and not reasons[norm]:
            reasons[norm] = f"{layer!r} before it stays in float"
    return reasons


def folded(twin: tf_keras.Model) -> dict[str, str]:
    """Return the batch normalizations that become a part of the layer before them, with the name of that layer."""
    graph = _Graph(twin)
    norms = [layer.name for layer in twin.layers if kind(layer) == "BatchNormalization"]
    return {norm: graph.before(norm) for norm in norms if not graph.why_not_folded(norm)}


def factorizable(model: keras.Model, min_share: float = MIN_SHARE) -> dict[str, str]:
    """Tell of every layer with a kernel of a Keras 3 model whether it can become two thin ones."""
    total = model.count_params()
    return {
        name: why_not_factorized(layer, layer.count_params() / total, min_share)
        for name, layer in named_layers(model).items()
        if kernel_name(layer)
    }


def why_not_factorized(layer: keras.layers.Layer, share: float, min_share: float = MIN_SHARE) -> str:
    """Tell why a layer that holds a share of the weights of its model cannot become two thin ones, or return ""."""
    kind = type(layer).__name__
    if kind not in _FACTORIZABLE:
        return f"layers of type {kind} are not factorized"
    if getattr(layer, "groups", 1) > 1:
        return f"its {layer.groups} groups are not factorized"
    if kind == "EinsumDense" and not einsum_axes(layer.equation):
        return f"its equation {layer.equation!r} is not that of one matrix product"
    if share < min_share:
        return _SMALL.format(share=share, min_share=min_share)
    size = np.prod(layer.kernel.shape)
    outputs = int(np.prod(layer.kernel.shape[axes_going_in(layer) :]))
    if size // outputs + outputs >= size:
        return f"at rank 1 two layers would have {size // outputs + outputs:,} weights, the one has {size:,}"
    return ""


def einsum_axes(equation: str) -> tuple[str, tuple[str, str], str] | None:
    """Split an equation such as `abc,cde->abde` into what goes in, the two sides of the kernel, and what comes out.

    Returns:
        `("abc", ("c", "de"), "abde")`, or None if the kernel is not a matrix from the last axes to others.
    """
    before, kernel, after = equation.replace("->", ",").replace(" ", "").split(",")
    contracted = "".join(letter for letter in kernel if letter not in after)
    coming_out = kernel.removeprefix(contracted)
    kept = before.removesuffix(contracted)
    plain = kernel == contracted + coming_out and before == kept + contracted and after == kept + coming_out
    return (before, (contracted, coming_out), after) if plain and contracted and "." not in equation else None


def axes_going_in(layer: keras.layers.Layer) -> int:
    """Return how many axes of a kernel are summed over."""
    if type(layer).__name__ == "EinsumDense" and (axes := einsum_axes(layer.equation)):
        return len(axes[1][0])
    return len(layer.kernel.shape) - 1


def is_sparse(kernel: np.ndarray) -> bool:
    """Tell whether a kernel was pruned; others have next to no zeros."""
    return bool(np.mean(kernel == 0) > 0.01)


def is_clustered(kernel: np.ndarray) -> bool:
    """Tell whether the weights of a kernel share their values."""
    values = kernel[kernel != 0]
    return 2 * len(np.unique(values)) <= values.size


def _with_kernels(twin: tf_keras.Model, min_share: float, wrap: Any) -> dict[str, str]:
    reasons, total = {}, max(twin.count_params(), 1)
    for layer in twin.layers:
        name = kernel_name(layer)
        share = layer.count_params() / total
        if name is None:
            if share >= min_share and any(len(weight.shape) > 1 for weight in layer.weights):
                reasons[layer.name] = f"layers of type {kind(layer)} have no kernel that can be treated by itself"
        elif name == "depthwise_kernel":
            reasons[layer.name] = "depthwise kernels are small and lose much accuracy, so TFMOT leaves them alone"
        elif share < min_share:
            reasons[layer.name] = _SMALL.format(share=share, min_share=min_share)
        else:
            reasons[layer.name] = _why_not_wrapped(layer, wrap)
    return reasons


def _why_not_wrapped(layer: tf_keras.layers.Layer, wrap: Any) -> str:
    try:
        # A copy, because wrapping marks the layer; built, because a convolution must show its size.
        copy = type(layer).from_config(layer.get_config())
        copy.build(layer.input_shape)
        wrap(copy)
    except (ValueError, KeyError):
        return f"TFMOT does not support layers of type {type(layer).__name__}"
    return ""


def _why_not_quantized(layer: tf_keras.layers.Layer, registry: Any, graph: _Graph) -> str:
    name = kind(layer)
    if name == "BatchNormalization":
        return graph.why_not_folded(layer.name)
    if own_kinds.is_ranged(layer) and not graph.is_output(layer.name):
        return _why_no_ranges(layer, graph)
    if name != "SeparableConv2D" and not own_kinds.is_quantized(layer) and not registry.supports(layer):
        return f"TFMOT has no quantized form of {name}"
    if problem := _why_no_ranges(layer, graph):
        return problem
    activation = getattr(layer, "activation", None)
    function = getattr(activation, "__name__", type(activation).__name__)
    if activation is not None and function not in _ACTIVATIONS:
        return f"TFMOT has no quantized form of the activation {function!r}"
    if function == "swish" and kernel_name(layer):
        return "TFMOT learns no range in front of its activation 'swish'; make that a layer of its own"
    if name not in PRESERVABLE + ("SeparableConv2D",) and kernel_name(layer):
        kernel = getattr(layer, kernel_name(layer)).numpy()
        if is_sparse(kernel) or is_clustered(kernel):
            return f"quantizing a {name} would undo what pruning or clustering has won"
    return ""


def _why_no_ranges(layer: tf_keras.layers.Layer, graph: _Graph) -> str:
    types = {tensor.dtype.name for tensor in tf.nest.flatten(layer.get_input_at(0))}
    if types != {"float32"} and kind(layer) != "Embedding":
        return f"its input is {', '.join(sorted(types))}, and ranges are learned of float32 only"
    if len(layer.inbound_nodes) > 1:
        return f"it is called {len(layer.inbound_nodes)} times, and TFMOT quantizes layers that are called once"
    masks = tf.nest.flatten(layer.get_input_mask_at(0))
    if graph.has_named_inputs(layer.name) or any(mask is not None for mask in masks):
        return "it is called with a mask (mask_zero=True, Masking), which TFMOT does not pass on"
    return ""


class _Graph:
    """Who feeds whom, read from the configuration of a functional model."""

    def __init__(self, twin: tf_keras.Model):
        config = twin.get_config()
        self._layers = {layer["name"]: layer for layer in config["layers"]}
        self._outputs = _sources(config["output_layers"])
        self._inputs = {name: _sources(layer["inbound_nodes"]) for name, layer in self._layers.items()}

    def has_named_inputs(self, name: str) -> bool:
        """Whether a layer is called with tensors besides its input, such as a mask."""
        return any(_sources(named) for node in self._layers[name]["inbound_nodes"] for *_, named in node)

    def is_output(self, name: str) -> bool:
        return name in self._outputs

    def before(self, name: str) -> str:
        """The layer that feeds a layer with one input."""
        return self._inputs[name][0]

    def why_not_folded(self, name: str) -> str:
        """A batch normalization is quantized as a part of the convolution or dense layer it alone follows."""
        inputs = self._inputs[name]
        before = self._layers[inputs[0]] if len(inputs) == 1 else None
        if before is None or before["class_name"] not in _FOLDABLE:
            return f"quantization needs it right behind one of {', '.join(_FOLDABLE)}"
        activation = before["config"]["activation"]
        if activation != "linear":
            return f"{inputs[0]!r} before it has an activation ({activation}); move that behind the normalization"
        consumers = sum(feeding.count(inputs[0]) for feeding in self._inputs.values())
        if consumers + self._outputs.count(inputs[0]) > 1 or len(self._inputs[inputs[0]]) > 1:
            return f"{inputs[0]!r} before it feeds other layers too"
        return ""


Connection = tuple[str, int, int]
"""A layer, the number of its call, and the number of its output."""


def connected(connections: Any, change: Callable[[Connection], Connection]) -> Any:
    """Copy connections such as `["conv", 0, 0, {"mask": ["not_equal", 0, 0]}]`, however nested, and change each."""
    if isinstance(connections, dict):
        return {key: connected(value, change) for key, value in connections.items()}
    if not isinstance(connections, list | tuple):
        return connections
    match list(connections):
        case [str(name), int(call), int(output), *rest] if name != "_CONSTANT_VALUE":
            return [*change((name, call, output)), *connected(rest, change)]
    return [connected(connection, change) for connection in connections]


def _sources(connections: Any) -> list[str]:
    """Names of the layers in connections."""
    names: list[str] = []

    def note(connection: Connection) -> Connection:
        names.append(connection[0])
        return connection

    connected(connections, note)
    return names
