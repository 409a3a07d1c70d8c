"""Rows per second of input pipelines: `Subset.batches` against the usual `tf.data` recipes, and against itself.

First on Fashion-MNIST. Then two comparisons within masslib, whose pipelines take turns likewise: a dict of four fields
against one array of the same bytes, and rows of varying length in batches of similar length (`group_by_length`) against
all of them padded to the longest beforehand: read alone, which copies more bytes and computes less, and as they train
a small network, which is what padding costs.

Every pipeline is consumed inside one `tf.function` that adds up something small of each batch. All take turns in
every round of one run; a ratio is the median over the rounds of the ratio within a round, to the pipeline of the
family with the best median.

    python benchmarks/pipeline.py [--rounds 7] [--batch 128] [--rows 60000]

Exit code 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import masslib.data
from masslib.data import Subset, from_arrays, ragged

import keras
import numpy as np
import tensorflow as tf

TARGETS = {"tutorial": 12.0, "cached": 1.5}
AUTO = tf.data.AUTOTUNE
OWN = "masslib Subset.batches"


def main() -> int:
    """Runs all pipelines, prints the table and the ratios, returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rows", type=int, default=60_000, help="of the comparisons within masslib")
    options = parser.parse_args()
    subset = masslib.data.load("fashion_mnist").train
    datasets = pipelines(subset, options.batch)
    rates = measure({name: consumer(dataset) for name, dataset in datasets.items()}, len(subset), options.rounds)
    for name, values in rates.items():
        print(f"{name:36s}{statistics.median(values):12,.0f} images/s")
    missed = verdict(rates)
    for title, target, make, use in (
        ("a dict of four fields / one array of the same bytes", 0.8, fields, consumer),
        ("group_by_length / padded to the longest, read alone", None, lengths, consumer),
        ("group_by_length / padded to the longest, trained", 1.5, lengths, trainer),
    ):
        datasets = make(options.rows, options.batch)
        pair = measure({name: use(dataset) for name, dataset in datasets.items()}, options.rows, options.rounds)
        for name, values in pair.items():
            print(f"{name:36s}{statistics.median(values):12,.0f} rows/s")
        own, other = pair.values()
        missed |= told(title, [a / b for a, b in zip(own, other, strict=True)], target)
    return missed


def pipelines(subset: Subset, batch: int) -> dict[str, tf.data.Dataset]:
    """The competitors by name; the first word is the family."""
    raw, y = (subset[:][0] * 255).round().astype("uint8"), subset.y  # what a tutorial starts from
    slices = tf.data.Dataset.from_tensor_slices((raw, y))
    shuffled = slices.cache().shuffle(len(y))
    untuned = tf.data.Options()
    untuned.autotune.enabled = False  # as Subset.batches has it

    def normalise(x: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.cast(x, tf.float32) / 255.0, label

    return {
        "tutorial map": slices.map(normalise).shuffle(len(y)).batch(batch).prefetch(AUTO),
        "tutorial map(AUTOTUNE)": slices.map(normalise, AUTO).shuffle(len(y)).batch(batch).prefetch(AUTO),
        "cached batch, map": shuffled.batch(batch).map(normalise),
        "cached batch, map, prefetch": shuffled.batch(batch).map(normalise).prefetch(AUTO),
        "cached batch, map(AUTOTUNE), prefetch": shuffled.batch(batch).map(normalise, AUTO).prefetch(AUTO),
        "cached batch(AUTOTUNE), map, prefetch": shuffled.batch(batch, num_parallel_calls=AUTO)
        .map(normalise)
        .prefetch(AUTO),
        "cached all AUTOTUNE": shuffled.batch(batch, num_parallel_calls=AUTO).map(normalise, AUTO).prefetch(AUTO),
        "cached batch, map, prefetch, untuned": shuffled.batch(batch).map(normalise).prefetch(2).with_options(untuned),
        OWN: subset.batches(batch),
    }


def fields(rows: int, batch: int) -> dict[str, tf.data.Dataset]:
    """A dict of four fields, and one array of the same bytes."""
    x, y = np.random.default_rng(0).random((rows, 28, 28), np.float32), np.arange(rows, dtype=np.int32) % 10
    quarters = {f"field {k}": np.ascontiguousarray(x[:, 7 * k : 7 * k + 7]) for k in range(4)}
    return {
        "a dict of four fields": from_arrays(quarters, y).batches(batch),
        "one array": from_arrays(x, y).batches(batch),
    }


def lengths(rows: int, batch: int) -> dict[str, tf.data.Dataset]:
    """Texts of 8 to 512 ids of words, most of them short, grouped by length, and padded to the longest."""
    random = np.random.default_rng(0)
    sizes = np.clip(random.lognormal(4, 0.8, rows), 8, 512).astype(int)
    texts = [random.integers(1, 20_000, size, np.int32) for size in sizes]
    padded = np.zeros((rows, 512), np.int32)
    for target, text in zip(padded, texts, strict=True):
        target[: len(text)] = text
    labels = np.arange(rows, dtype=np.int32) % 2
    return {
        "group_by_length": from_arrays(ragged(texts), labels).group_by_length().batches(batch),
        "padded to the longest": from_arrays(padded, labels).batches(batch),
    }


def measure(pipelines: dict[str, Callable[[], Any]], rows: int, rounds: int) -> dict[str, list[float]]:
    """Rows per second of every pipeline in every round; a warm-up round (it fills the caches) is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in pipelines}
    for number in range(rounds + 1):
        # Each round begins with another one, so that none is always the one behind a slow one.
        names = list(pipelines)[number % len(pipelines) :] + list(pipelines)[: number % len(pipelines)]
        for name in names:
            begin = time.perf_counter()
            float(pipelines[name]())
            if number:
                rates[name].append(rows / (time.perf_counter() - begin))
    return rates


def consumer(dataset: tf.data.Dataset) -> Callable[[], tf.Tensor]:
    """A graph that pulls every batch and adds up one value of each field and one label of each."""

    @tf.function
    def consume() -> tf.Tensor:
        total = tf.constant(0.0)
        for x, y in dataset:
            total += sum(tf.cast(tf.reshape(part[0], [-1])[0], tf.float32) for part in (*tf.nest.flatten(x), y))
        return total

    return consume


def trainer(dataset: tf.data.Dataset) -> Callable[[], float]:
    """An epoch of Keras' `fit` with a small network of text."""
    keras.utils.set_random_seed(0)
    layers = keras.layers.Conv1D(32, 5, activation="relu"), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1)
    model = keras.Sequential([keras.Input((None,), dtype="int32"), keras.layers.Embedding(20_000, 16), *layers])
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    return lambda: model.fit(dataset, shuffle=False, verbose=0).history["loss"][0]


def verdict(rates: dict[str, list[float]]) -> int:
    """Prints the ratio to the best pipeline of each family; 1 if a target is missed, else 0."""
    missed = 0
    for family, target in TARGETS.items():
        best = max((name for name in rates if name.startswith(family)), key=lambda name: statistics.median(rates[name]))
        ratios = [own / other for own, other in zip(rates[OWN], rates[best], strict=True)]
        missed |= told(f"Subset.batches / {best}", ratios, target)
    return missed


def told(title: str, ratios: list[float], target: float | None) -> int:
    """Prints the median of the ratios; 1 if the target is missed, else 0."""
    ratio = statistics.median(ratios)
    missed = target is not None and ratio < target
    wanted = "no target" if target is None else f"target {target}: {'missed' if missed else 'met'}"
    print(f"{title}: {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}), {wanted}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
