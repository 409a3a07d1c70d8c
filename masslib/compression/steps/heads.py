"""Attention with fewer heads."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from masslib.graph.layers import settings

ATTENTION = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
"""Layers with heads that can be removed one by one, those of a group that shares keys and values together."""


def heads(layer: keras.layers.Layer) -> int:
    """Return how many heads a layer has, or groups of them that share keys and values."""
    return layer.num_key_value_heads if isinstance(layer, keras.layers.GroupQueryAttention) else layer.num_heads


def head_norms(layer: keras.layers.Layer, power: int) -> np.ndarray:
    """Return the norm of the kernels of each head."""
    rows = [
        np.moveaxis(weight, axis, 0).reshape(heads(layer), -1)
        for weight, axis in _weights(layer)
        if axis is not None and weight.ndim > 2
    ]
    return np.linalg.norm(np.concatenate(rows, axis=1), power, axis=1)


def with_heads(layer: keras.layers.Layer, kept: np.ndarray) -> tuple[keras.layers.Layer, list[np.ndarray]]:
    """Return an attention like a layer with some of its heads, and its weights.

    Args:
        layer: One of `ATTENTION`; it is not changed.
        kept: Numbers of the heads to keep, ascending.
    """
    count, config = heads(layer), settings(layer)
    weights = []
    for weight, axis in _weights(layer):
        if axis is not None:
            # Query heads of a group lie side by side.
            each = weight.shape[axis] // count
            weight = np.take(weight, (kept[:, None] * each + np.arange(each)).ravel(), axis)
        weights.append(weight)
    for name in ("num_heads", "num_query_heads", "num_key_value_heads"):
        if name in config:
            config[name] = config[name] // count * len(kept)
    return type(layer).from_config(config), weights


def why_no_heads(layer: keras.layers.Layer, fraction: float) -> str:
    """Tell why none of the heads can be removed, or return ""."""
    removed = int(fraction * heads(layer) + 1e-9)
    return "" if removed else f"{fraction:.0%} of its {heads(layer)} heads are less than one"


def _weights(layer: keras.layers.Layer) -> list[tuple[np.ndarray, int | None]]:
    """Return the weights, each with the axis of the heads."""

    def axis(variable: Any) -> int | None:
        *_, part, name = variable.path.split("/")
        if part == "attention_output":
            return 0 if name == "kernel" else None
        return 1 if name == "kernel" else 0

    return [(weight, axis(variable)) for variable, weight in zip(layer.weights, layer.get_weights(), strict=True)]
