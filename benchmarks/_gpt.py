"""The GPT of `language_model.py`, as in notebook 18: to train, to read a text, and to write one more character."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

PLACES, LETTERS, DEPTH, HEADS = 256, 65, 4, 4
SLOPES = np.array([1, 1 / 4, 1 / 16, 1 / 64], "float32")[:, None, None]


def transformer(layer: Callable, characters: Any, places: Any, length: int = PLACES, past: Any = None) -> Any:
    """The scores of the next characters, and the keys and values of all places.

    Args:
        layer: Gives a layer by its name.
        characters: Their numbers `(rows, n)`.
        places: Where they stand, `(1, n)` or `(rows, n)`.
        length: How many keys there are.
        past: Keys and values of earlier characters, in which those of this one get their places.

    References:
        Press et al., "Train Short, Test Long" (attention with linear biases), 2022.
    """
    numbers = np.arange(length, dtype="int32")
    ago = ops.cast(places[:, None, :, None] - numbers, "float32")
    mask = ops.where(ago >= 0, ago * -SLOPES, -1e9)
    here = ops.equal(places, numbers)[..., None] if past else None
    x, kept = layer("characters")(characters), []
    for i in range(DEPTH):
        h = layer(f"norm_a{i}")(x)
        q, *kv = (layer(f"{name}{i}")(h) for name in "qkv")
        if past:
            kv = [ops.where(here, new, old) for new, old in zip(kv, past[2 * i : 2 * i + 2], strict=True)]
        kept += kv
        q, k, v = (
            ops.transpose(ops.reshape(t, (-1, t.shape[1], HEADS, t.shape[2] // HEADS)), (0, 2, 1, 3)) for t in (q, *kv)
        )
        fits = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / q.shape[-1] ** 0.5
        h = ops.transpose(ops.matmul(ops.softmax(fits + mask), v), (0, 2, 1, 3))
        x = x + layer(f"o{i}")(ops.reshape(h, (-1, h.shape[1], HEADS * h.shape[3])))
        x = x + layer(f"down{i}")(layer(f"up{i}")(layer(f"norm_b{i}")(x)))
    return layer("scores")(layer("norm")(x)), kept


def network(width: int, length: int = PLACES) -> keras.Model:
    """The network as it is trained: `length` characters -> scores of what follows each of them."""
    keras.utils.set_random_seed(0)
    made = {"characters": layers.Embedding(LETTERS, width, name="characters")}
    for name in [f"norm_{part}{i}" for i in range(DEPTH) for part in "ab"] + ["norm"]:
        made[name] = layers.LayerNormalization(center=False, name=name)
    for name in [f"{part}{i}" for i in range(DEPTH) for part in ("q", "k", "v", "o", "up", "down")] + ["scores"]:
        units = LETTERS if name == "scores" else 4 * width if "up" in name else width
        made[name] = layers.Dense(units, "relu" if "up" in name else None, use_bias=False, name=name)
    text = keras.Input((length,), dtype="int32", name="text")
    return keras.Model(text, transformer(made.get, text, _all(text), length)[0])


def parts(layer: Callable, width: int) -> dict[str, keras.Model]:
    """The two signatures: `prefill` reads a text, `decode` one more character with the cache of those before it."""
    text = keras.Input((PLACES,), dtype="int32", name="text")
    scores, kept = transformer(layer, text, _all(text))
    prefill = keras.Model({"text": text}, {"scores": scores, "cache": kept})
    given: dict[str, Any] = {name: keras.Input((1,), dtype="int32", name=name) for name in ("character", "place")}
    given["cache"] = [keras.Input((PLACES, width), name=f"cache{k}") for k in range(2 * DEPTH)]
    scores, kept = transformer(layer, given["character"], given["place"], past=given["cache"])
    return {"prefill": prefill, "decode": keras.Model(given, {"scores": scores[:, 0], "cache": kept})}


def _all(text: Any) -> Any:
    # Made of the input, or the converter would store the mask of all heads and places as a constant.
    return ops.zeros_like(text) + np.arange(text.shape[1], dtype="int32")
