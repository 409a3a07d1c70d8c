"""Images per second of input pipelines on Fashion-MNIST: `Subset.batches` against the usual `tf.data` recipes.

Every pipeline is consumed inside one `tf.function` that adds up something small of each batch. All take turns in
every round of one run; a ratio is the median over the rounds of the ratio within a round, to the pipeline of the
family with the best median.

    python benchmarks/pipeline.py [--rounds 7] [--batch 128]

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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import masslib.data
from masslib.data import Subset

import tensorflow as tf

TARGETS = {"tutorial": 12.0, "cached": 1.5}
AUTO = tf.data.AUTOTUNE
OWN = "masslib Subset.batches"


def main() -> int:
    """Runs all pipelines, prints the table and the ratios, returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    subset = masslib.data.load("fashion_mnist").train
    datasets = pipelines(subset, options.batch)
    rates = measure(datasets, len(subset), options.rounds)
    for name, values in rates.items():
        print(f"{name:36s}{statistics.median(values):12,.0f} images/s")
    return verdict(rates)


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


def measure(datasets: dict[str, tf.data.Dataset], rows: int, rounds: int) -> dict[str, list[float]]:
    """Images per second of every dataset in every round; a warm-up round (it fills the caches) is not counted."""
    consumers = {name: consumer(dataset) for name, dataset in datasets.items()}
    rates: dict[str, list[float]] = {name: [] for name in datasets}
    for number in range(rounds + 1):
        for name, consume in consumers.items():
            begin = time.perf_counter()
            float(consume())
            if number:
                rates[name].append(rows / (time.perf_counter() - begin))
    return rates


def consumer(dataset: tf.data.Dataset) -> Callable[[], tf.Tensor]:
    """A graph that pulls every batch and adds up one pixel and one label of each."""

    @tf.function
    def consume() -> tf.Tensor:
        total = tf.constant(0.0)
        for x, y in dataset:
            total += x[0, 14, 14, 0] + tf.cast(y[0], tf.float32)
        return total

    return consume


def verdict(rates: dict[str, list[float]]) -> int:
    """Prints the ratio to the best pipeline of each family; 1 if a target is missed, else 0."""
    missed = 0
    for family, target in TARGETS.items():
        best = max((name for name in rates if name.startswith(family)), key=lambda name: statistics.median(rates[name]))
        ratios = [own / other for own, other in zip(rates[OWN], rates[best], strict=True)]
        ratio = statistics.median(ratios)
        missed += ratio < target
        print(
            f"Subset.batches / {best}: {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}), target {target}: "
            f"{'missed' if ratio < target else 'met'}"
        )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
