"""Which channels of a model belong together: those that must all be removed, or none of them.

Every channel that a layer computes gets a number. Tensors are described by the numbers of their last axis, and
layers that keep the channels apart hand them on: behind a Flatten each number comes once per place of the image. Where
tensors are added up, the numbers of a place become one group (the coupled filters of Li et al., 2017; the dependency
graph of Fang et al., "DepGraph", 2023). Where a layer mixes the channels in a way that is not known, they are fixed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from masslib.graph.calls import Call, calls

if TYPE_CHECKING:
    import keras

# Layer -> weight -> which of its axes are the channels that go in, and those that come out.
_BIAS = {"bias": (None, 0)}
_CONVOLUTION = {"kernel": (-2, -1), **_BIAS}
_SEPARABLE = {"depthwise_kernel": (-2, None), "pointwise_kernel": (-2, -1), **_BIAS}
PRODUCERS = {
    "Dense": _CONVOLUTION,
    "Conv1D": _CONVOLUTION,
    "Conv2D": _CONVOLUTION,
    "Conv3D": _CONVOLUTION,
    "Conv2DTranspose": {"kernel": (-1, -2), **_BIAS},
    "SeparableConv1D": _SEPARABLE,
    "SeparableConv2D": _SEPARABLE,
}
"""Layers that compute new channels, of which some can be removed."""
FOLLOWERS = {
    "DepthwiseConv1D": {"kernel": (-2, None), **_BIAS},
    "DepthwiseConv2D": {"kernel": (-2, None), **_BIAS},
    "BatchNormalization": dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (None, 0)),
    "PReLU": {"alpha": (None, -1)},
}
"""Layers with weights for each of the channels that go in."""

_POINTWISE = {
    *("Activation", "ReLU", "LeakyReLU", "ELU", "Identity", "Dropout", "GaussianNoise", "GaussianDropout"),
    *("AlphaDropout", "ActivityRegularization", "Relu", "Relu6", "Sigmoid", "Tanh", "Silu", "HardSigmoid", "HardSilu"),
    *("BatchNormalization", "PReLU", "Rescaling"),
}
_POOLING = {
    f"{kind}{dimensions}D"
    for dimensions in (1, 2, 3)
    for kind in (
        *("MaxPooling", "AveragePooling", "GlobalMaxPooling", "GlobalAveragePooling"),
        *("ZeroPadding", "Cropping", "UpSampling", "SpatialDropout"),
    )
}
_MERGING = {"Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Divide", "CustomScaleLayer"}
# Activations that look at all channels at once.
_MIXING = ("softmax", "log_softmax", "sparsemax", "glu", "sparse_plus")


class Channels:
    """The channels of a model, and who uses them.

    Attributes:
        ends: Name of a layer that depends on the number of its channels -> those that go in, those that come out.
        producers: Name of a layer that computes new channels -> those channels.
        group: Channel -> the group of channels that it belongs to.
        fixed: Group that cannot be removed -> the reason.
    """

    def __init__(self, model: keras.Model):
        self.ends: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.producers: dict[str, np.ndarray] = {}
        self._parents: list[int] = []  # channel -> another one of its group, nearer to the one that stands for it
        self._reasons: dict[int, str] = {}
        self._of: dict[int, np.ndarray] = {}  # id of a tensor -> the channels of its last axis
        inputs, found, outputs = calls(model)
        for tensor in inputs:
            self._of[id(tensor)] = self._new(tensor, "is coupled with an input of the model")
        for call in found:
            self._follow(call)
        self.group = np.array([self._find(channel) for channel in range(len(self._parents))], int)
        results = np.concatenate([self._of[id(tensor)] for tensor in outputs])
        self.fixed = dict.fromkeys(self.group[results].tolist(), "computes outputs of the model")
        for channel, reason in self._reasons.items():
            self.fixed.setdefault(int(self.group[channel]), reason)

    def _follow(self, call: Call) -> None:
        incoming = [self._of[id(tensor)] for tensor in call.inputs]
        outgoing = self._outgoing(call, incoming)
        if outgoing is not None:
            self._of[id(call.outputs[0])] = outgoing
            return
        kind = type(call.layer).__name__
        for channels in incoming:
            self._fix(channels, f"feeds {call.name!r}, a {kind} that needs all channels")
        for tensor in call.outputs:
            self._of[id(tensor)] = self._new(tensor, f"is coupled with {call.name!r}, a {kind} that keeps all channels")

    def _outgoing(self, call: Call, incoming: list[np.ndarray]) -> np.ndarray | None:
        """Return the channels that come out of a call, or None if it is not known how they depend on the others."""
        kind, layer = type(call.layer).__name__, call.layer
        first_or_last = getattr(layer, "data_format", None)
        if not type(layer).__module__.startswith("keras.") or first_or_last == "channels_first":
            return None
        activation = getattr(getattr(layer, "activation", None), "__name__", "")
        if kind in PRODUCERS and getattr(layer, "groups", 1) == 1:
            outgoing = self.producers.get(call.name)
            if outgoing is None:
                outgoing = self.producers[call.name] = self._new(call.outputs[0])
            if activation in _MIXING:
                self._fix(outgoing, f"has the activation {activation!r}, which needs all channels")
            return self._between(call, incoming[0], outgoing)
        if kind in _MERGING and all(np.ndim(constant) == 0 for constant in call.constants):
            return self._merged(incoming)
        if kind == "Concatenate":
            return self._concatenated(call, incoming)
        if len(incoming) != 1 or call.constants:
            return None
        channels, shape = incoming[0], call.outputs[0].shape
        if kind.startswith("DepthwiseConv"):
            return self._between(call, channels, np.repeat(channels, layer.depth_multiplier))
        if kind in ("Flatten", "Reshape"):
            return self._reshaped(call, channels)
        per_channel = kind != "BatchNormalization" or layer.axis in (-1, len(shape) - 1)
        if (kind in _POINTWISE | _POOLING) and activation not in _MIXING and per_channel:
            return self._between(call, channels, channels)
        return None

    def _between(self, call: Call, incoming: np.ndarray, outgoing: np.ndarray) -> np.ndarray | None:
        """Note what goes in and comes out of a layer; all calls of a shared layer have the same channels."""
        if type(call.layer).__name__ not in (*PRODUCERS, *FOLLOWERS, "Reshape"):
            return outgoing
        for before, now in zip(self.ends.get(call.name, ()), (incoming, outgoing), strict=False):
            if len(before) != len(now):
                return None
            self._join(before, now)
        self.ends[call.name] = incoming, outgoing
        return outgoing

    def _merged(self, incoming: list[np.ndarray]) -> np.ndarray | None:
        widest = max(incoming, key=len)
        for channels in incoming:
            if len(channels) == len(widest):
                self._join(channels, widest)
            elif len(channels) != 1:  # one channel goes to all
                return None
        return widest

    def _concatenated(self, call: Call, incoming: list[np.ndarray]) -> np.ndarray | None:
        if call.layer.axis in (-1, len(call.outputs[0].shape) - 1):
            return np.concatenate(incoming)
        return self._merged(incoming)

    def _reshaped(self, call: Call, incoming: np.ndarray) -> np.ndarray | None:
        before, after = call.inputs[0].shape, call.outputs[0].shape
        if after[-1] is None or not len(incoming):
            return None
        if before[-1] == after[-1]:
            return self._between(call, incoming, incoming)
        if len(after) == 2:
            return self._between(call, incoming, np.tile(incoming, after[-1] // len(incoming)))
        return None

    def _new(self, tensor: keras.KerasTensor, reason: str | None = None) -> np.ndarray:
        """Number the channels of a tensor; there are none if its last axis has no fixed size."""
        size = tensor.shape[-1] if len(tensor.shape) > 1 else None
        channels = len(self._parents) + np.arange(size or 0)
        self._parents.extend(channels.tolist())
        if reason:
            self._fix(channels, reason)
        return channels

    def _fix(self, channels: np.ndarray, reason: str) -> None:
        for channel in channels.tolist():
            self._reasons.setdefault(channel, reason)

    def _join(self, channels: np.ndarray, others: np.ndarray) -> None:
        for one, other in zip(channels.tolist(), others.tolist(), strict=True):
            self._parents[self._find(one)] = self._find(other)

    def _find(self, channel: int) -> int:
        while self._parents[channel] != channel:
            self._parents[channel] = self._parents[self._parents[channel]]
            channel = self._parents[channel]
        return channel
