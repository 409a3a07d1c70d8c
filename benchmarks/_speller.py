"""The networks of `spelling.py`, as in notebook 17: letters in, phonemes out, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import masslib
from masslib.data import Subset, from_arrays, ragged

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from scipy.special import log_softmax

LETTERS = "'abcdefghijklmnopqrstuvwxyz"
END, LONGEST = 40, 34  # the end of a word stands before its phonemes, too; letters of the longest word


def numbered(words: Iterable[str]) -> list[list[int]]:
    """The letters of words as numbers from 1."""
    return [[LETTERS.index(letter) + 1 for letter in word] for word in words]


def examples(side: Subset) -> Subset:
    """What a network trains on: letters and the phonemes before, and each phoneme with the end behind the last one."""
    words, spoken = side[:]
    sounds = [row[row > 0].tolist() for row in spoken]
    before, after = ragged([[END, *it] for it in sounds]), ragged([[*it, END] for it in sounds])
    return from_arrays({"letters": ragged(numbered(words)), "before": before}, after).group_by_length()


class Recurrent:
    """A GRU in both directions reads, a GRU with attention speaks.

    References:
        Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014; Luong et al., "Effective
        approaches to attention-based neural machine translation", 2015.
    """

    def __init__(self, width: int):
        gru = {"return_sequences": True, "return_state": True}
        made = [
            layers.Embedding(len(LETTERS) + 1, width // 4, mask_zero=True, name="spelling"),
            layers.Embedding(END + 1, width // 4, name="sounds"),
            layers.Bidirectional(layers.GRU(width // 2, **gru), name="encoder"),
            layers.GRU(width, name="decoder", **gru),
            layers.Attention(name="attention"),
            layers.Dense(width // 2, "tanh", name="combine"),
            layers.Dropout(0.1, name="dropout"),
            layers.Dense(END + 1, name="scores"),
        ]
        self.layer = {it.name: it for it in made}.get

    def encode(self, layer: Callable, letters: Any) -> dict[str, Any]:
        memory, forward, backward = layer("encoder")(layer("spelling")(letters))
        return {"memory": memory, "state": ops.concatenate([forward, backward], axis=-1)}

    def decode(self, layer: Callable, letters: Any, before: Any, memory: Any, state: Any) -> dict[str, Any]:
        heard, state = layer("decoder")(layer("sounds")(before), initial_state=state)
        context, looks = layer("attention")(
            [heard, memory], mask=[None, ops.not_equal(letters, 0)], return_attention_scores=True
        )
        said = layer("dropout")(layer("combine")(ops.concatenate([heard, context], axis=-1)))
        return {"scores": layer("scores")(said), "looks": looks, "state": state}


class Transformer:
    """Attention reads, attention speaks; a word has no state but all of its phonemes so far.

    References:
        Vaswani et al., "Attention is all you need", 2017; the order of the normalizations is that of Xiong et al., "On
        layer normalization in the Transformer architecture", 2020.
    """

    def __init__(self, width: int, depth: int = 2, heads: int = 4):
        self.depth = depth
        made = [
            layers.Embedding(len(LETTERS) + 1, width, name="spelling"),
            layers.Embedding(END + 1, width, name="sounds"),
            layers.Embedding(LONGEST + 1, width, name="places"),
            layers.Dropout(0.1, name="dropout"),
            layers.Dense(END + 1, name="scores"),
        ]
        for side, looks in (("reads", "a"), ("says", "ab")):
            for k in range(depth):
                made += [layers.MultiHeadAttention(heads, width // heads, name=f"{side}_look_{it}{k}") for it in looks]
                made += [layers.Dense(3 * width, "relu", name=f"{side}_up{k}")]
                made += [layers.Dense(width, name=f"{side}_down{k}")]
                made += [layers.LayerNormalization(name=f"{side}_norm_{it}{k}") for it in looks + "c"]
            made += [layers.LayerNormalization(name=f"{side}_norm")]
        self.layer = {it.name: it for it in made}.get

    def encode(self, layer: Callable, letters: Any) -> dict[str, Any]:
        there = ops.not_equal(letters, 0)[:, None]
        x = self._placed(layer, "spelling", letters)
        for k in range(self.depth):
            h = layer(f"reads_norm_a{k}")(x)
            x = x + layer("dropout")(layer(f"reads_look_a{k}")(h, h, attention_mask=there))
            x = self._thought(layer, "reads", k, x)
        return {"memory": layer("reads_norm")(x)}

    def decode(self, layer: Callable, letters: Any, before: Any, memory: Any) -> dict[str, Any]:
        there = ops.not_equal(letters, 0)[:, None]
        x = self._placed(layer, "sounds", before)
        for k in range(self.depth):
            h = layer(f"says_norm_a{k}")(x)
            x = x + layer("dropout")(layer(f"says_look_a{k}")(h, h, use_causal_mask=True))
            h = layer(f"says_norm_b{k}")(x)
            x = x + layer("dropout")(layer(f"says_look_b{k}")(h, memory, attention_mask=there))
            x = self._thought(layer, "says", k, x)
        return {"scores": layer("scores")(layer("says_norm")(x))}

    def _placed(self, layer: Callable, table: str, numbers: Any) -> Any:
        places = ops.cumsum(ops.ones_like(numbers), axis=1) - 1
        return layer("dropout")(layer(table)(numbers) + layer("places")(places))

    def _thought(self, layer: Callable, side: str, k: int, x: Any) -> Any:
        return x + layer("dropout")(layer(f"{side}_down{k}")(layer(f"{side}_up{k}")(layer(f"{side}_norm_c{k}")(x))))


def network(kind: Recurrent | Transformer) -> keras.Model:
    """The network as it is trained: every phoneme is guessed with the true ones before it."""
    letters, before = (keras.Input((None,), dtype="int32", name=name) for name in ("letters", "before"))
    known = kind.encode(kind.layer, letters)
    return keras.Model(
        {"letters": letters, "before": before}, kind.decode(kind.layer, letters, before, **known)["scores"]
    )


def parts(kind: Recurrent | Transformer, layer: Callable, length: int | None = LONGEST) -> dict[str, keras.Model]:
    """The two signatures: `encode` reads a word, `decode` says one more phoneme."""
    letters = keras.Input((length,), dtype="int32", name="letters")
    encoder = keras.Model({"letters": letters}, kind.encode(layer, letters))
    one = 1 if isinstance(kind, Recurrent) else None
    given: dict[str, Any] = {"letters": letters, "before": keras.Input((one,), dtype="int32", name="before")}
    for name, tensor in encoder.output.items():
        given[name] = keras.Input(tensor.shape[1:], name=name)
    return {"encode": encoder, "decode": keras.Model(given, kind.decode(layer, **given))}


def train(model: keras.Model, data: Subset, epochs: int, rate: float = 3e-3, batch_size: int = 256) -> None:
    steps = epochs * -(-len(data) // batch_size)
    rates = keras.optimizers.schedules.CosineDecay(
        0.0, steps - steps // 20, alpha=0.01, warmup_target=rate, warmup_steps=steps // 20
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    model.compile(keras.optimizers.Adam(rates, clipnorm=1.0), loss)
    masslib.fit(model, data, epochs=epochs, batch_size=batch_size, verbose=0, callbacks=[Told()])


class Told(keras.callbacks.Callback):
    """Prints the loss of each epoch."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        print(f"  epoch {epoch + 1}: loss {(logs or {}).get('loss', np.nan):.4f}", flush=True)


def search(run: Mapping[str, Callable], letters: np.ndarray, beams: int = 1) -> np.ndarray:
    """The likeliest of the phonemes found by beam search, `(words, steps)`, with 0 behind the end; greedy with 1 beam.

    Args:
        run: `encode` and `decode`, from arrays to arrays.
        letters: `(words, letters)`, padded with 0.
        beams: How many beginnings of each word are kept.
    """
    letters = np.repeat(letters, beams, axis=0)
    known = {name: np.asarray(it) for name, it in run["encode"]({"letters": letters}).items()}
    said = np.full((len(letters), 1), END, "int32")
    sums = np.where(np.arange(len(letters)) % beams, -np.inf, 0.0)  # at first all beams of a word are the same one
    closed = np.where(np.arange(END + 1) == END, 0.0, -np.inf)
    done = np.zeros(len(letters), bool)
    while not done.all() and said.shape[1] < LONGEST:
        answer = run["decode"]({"letters": letters, "before": said[:, -1:] if "state" in known else said, **known})
        steps = log_softmax(np.asarray(answer["scores"])[:, -1].astype("float64"), axis=-1)
        steps = sums[:, None] + np.where(done[:, None], closed, steps)
        best = np.argsort(-steps.reshape(-1, beams * (END + 1)), axis=1, kind="stable")[:, :beams]
        row = (best // (END + 1) + beams * np.arange(len(best))[:, None]).ravel()
        sums = np.take_along_axis(steps.reshape(len(best), -1), best, 1).ravel()
        said = np.concatenate([said[row], best.reshape(-1, 1).astype("int32") % (END + 1)], axis=1)
        done = said[:, -1] == END
        if "state" in known:
            known["state"] = np.asarray(answer["state"])[row]
    return np.where(said == END, 0, said)[::beams, 1:]


def distances(said: np.ndarray, words: np.ndarray, side: Subset) -> tuple[np.ndarray, np.ndarray]:
    """For each word the edit distance to the nearest of its pronunciations, and the phonemes of its first one."""
    spelled, spoken = side[:]
    place = {word: k for k, word in enumerate(words)}
    word = np.array([place[it] for it in spelled])
    sparse = [tf.sparse.from_dense(np.pad(it, ((0, 0), (0, LONGEST - it.shape[1])))) for it in (said[word], spoken)]
    found = np.asarray(tf.edit_distance(*sparse, normalize=False))
    nearest = np.full(len(words), np.inf)
    np.minimum.at(nearest, word, found)
    return nearest, (spoken[np.unique(word, return_index=True)[1]] > 0).sum(axis=1)


def said_by(run: Mapping[str, Callable], words: np.ndarray, beams: int = 1, rows: int = 256) -> np.ndarray:
    """The phonemes `(words, LONGEST)` of many words, those of similar length together."""
    said = np.zeros((len(words), LONGEST), "int32")
    order = np.argsort([len(word) for word in words], kind="stable")
    for k in range(0, len(words), rows):
        part = order[k : k + rows]
        found = search(run, np.array([it + [0] * (LONGEST - len(it)) for it in numbered(words[part])], "int32"), beams)
        said[part, : found.shape[1]] = found
    return said


def by_keras(kind: Recurrent | Transformer, layer: Callable) -> dict[str, Callable]:
    return {name: tf.function(part, reduce_retracing=True) for name, part in parts(kind, layer).items()}
