"""What compression is worth against training small: files of equal size after equally much training.

Three networks are trained on a part of Fashion-MNIST and compressed by pruning, clustering and quantization-aware
training: `small_cnn`, of which nearly all weights stand in one layer that is far too wide, the ResNet-8 of MLPerf Tiny,
and three narrow convolutions, which have no weight to spare. The rival of each has the same layers, all of them
narrower, so that its 8-bit file is no larger than the compressed one (gzipped); the width is found by bytes alone. It
is trained for as many operations as the large network and its fine-tuning took together. Files are judged on the 10,000
test photos, which choose nothing; the interval of the difference is paired.

    python benchmarks/small_rivals.py [small_cnn resnet8 narrow] [--seeds 2]
"""

from __future__ import annotations

import argparse
import bisect
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import masslib
from masslib import Cluster, Prune, Quantize, QuantizeAware

import keras
import numpy as np
import pandas as pd
from _networks import resnet8
from keras import layers

SPLITS = masslib.data.load("fashion_mnist")
ROWS, BATCH = 6_400, 128
TRAIN = SPLITS.train.take(ROWS)
TUNING = {"max_steps": 30, "learning_rate": 2e-4}
WIDTHS = (0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9)


def small_cnn(width: float) -> keras.Model:
    """That of the notebooks, with a narrower dense layer; its convolutions are narrow already."""
    dense = max(round(512 * width), 1)
    conv = [layers.Conv2D(16, 3, padding="same"), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D()]
    conv += [layers.Conv2D(32, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()]
    # A narrow one pools once more, rather than to have a dense layer of a few units.
    conv += [layers.MaxPooling2D()] if width < 1 else []
    top = [layers.Flatten(), layers.Dense(dense, activation="relu"), layers.Dense(10, "softmax")]
    return keras.Sequential([keras.Input((28, 28, 1)), *conv, *top])


def narrow(width: float) -> keras.Model:
    """Three convolutions of 8, 16 and 32 channels, each with stride 2, and the mean of their output."""
    stack: list[keras.layers.Layer] = [keras.Input((28, 28, 1))]
    for filters in (8, 16, 32):
        conv = layers.Conv2D(max(round(filters * width), 1), 3, strides=2, padding="same")
        stack += [conv, layers.BatchNormalization(), layers.ReLU()]
    return keras.Sequential([*stack, layers.GlobalAveragePooling2D(), layers.Dense(10, "softmax")])


@dataclass(frozen=True)
class Contest:
    """How a network is built at a share of its width, for how many epochs it is trained, and what compresses it."""

    build: Callable[[float], keras.Model]
    epochs: int
    prune: Prune


CONTESTS = {
    "small_cnn": Contest(small_cnn, 4, Prune(0.9, epochs=2, learning_rate=5e-4)),
    "resnet8": Contest(
        lambda width: resnet8((28, 28, 1), 10, width), 5, Prune(0.6, scope="global", epochs=2, learning_rate=1e-3)
    ),
    "narrow": Contest(narrow, 15, Prune(0.4, scope="global", min_share=0, epochs=4, learning_rate=1e-3)),
}


def trained(model: keras.Model, epochs: int, seed: int) -> keras.Model:
    """Train with a rate that falls along a cosine to zero."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9  # with 0.99 the averages are still near their start after steps so few
    falling = keras.optimizers.schedules.CosineDecay(2e-3, epochs * TRAIN.steps(BATCH))
    model.compile(keras.optimizers.Adam(falling), "sparse_categorical_crossentropy", metrics=["accuracy"])
    masslib.fit(model, TRAIN, epochs=epochs, batch_size=BATCH, seed=seed, verbose=0)
    return model


def int8(model: keras.Model, path: Path) -> Path:
    """Write the 8-bit file."""
    return masslib.export.tflite(masslib.compress(model, Quantize("int8"), TRAIN, verbose=False), path)


def gzipped(path: Path) -> int:
    return masslib.measure.file_size(path).gzipped


def widest(build: Callable[[float], keras.Model], most: int, folder: Path) -> float:
    """The largest width whose 8-bit file, gzipped, is no larger than `most` bytes; weights are random at first."""

    def size(width: float) -> int:
        model = build(width)
        model.compile(loss="sparse_categorical_crossentropy")
        return gzipped(int8(model, folder / "try.tflite"))

    fitting = bisect.bisect_right(WIDTHS, most, key=size)
    if not fitting:
        raise ValueError(f"a share of {WIDTHS[0]} of the width takes over {most} bytes; expected one that is narrower")
    return WIDTHS[fitting - 1]


def compete(contest: Contest, seed: int, folder: Path) -> Iterator[dict[str, object]]:
    """One row per file."""
    keras.utils.set_random_seed(seed)
    model = trained(contest.build(1.0), contest.epochs, seed)
    files = {
        "float": masslib.export.tflite(model, folder / "float.tflite"),
        "int8": int8(model, folder / "int8.tflite"),
    }
    recipe = [contest.prune, Cluster(16, **TUNING), QuantizeAware(**TUNING)]
    small = masslib.compress(model, recipe, TRAIN, batch_size=BATCH, seed=seed, verbose=False)
    files["compressed"] = masslib.export.tflite(small, folder / "compressed.tflite")
    width = widest(contest.build, gzipped(files["compressed"]), folder)
    rival = contest.build(width)
    spent = contest.epochs + contest.prune.epochs + 2 * TUNING["max_steps"] / TRAIN.steps(BATCH)
    plain = masslib.export.tflite(rival, folder / "rival.tflite")
    epochs = int(spent * masslib.measure.flops(files["float"]) / masslib.measure.flops(plain))
    files["trained small"] = int8(trained(rival, epochs, seed), folder / "small.tflite")
    judged = {name: masslib.evaluate(path, SPLITS.test) for name, path in files.items()}
    for name, path in files.items():
        gap, low, high = masslib.evaluation.difference(judged[name], judged["compressed"])
        row = {"file": name, "seed": seed, "accuracy": judged[name].accuracy, "gzipped_kb": gzipped(path) / 1000}
        row |= {"points_over_compressed": 100 * gap, "low": 100 * low, "high": 100 * high}
        yield row | ({"width": width, "epochs": epochs} if name == "trained small" else {})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(CONTESTS))
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    for name in options.names or CONTESTS:
        rows: list[dict[str, object]] = []
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as folder:
                rows += compete(CONTESTS[name], seed, Path(folder))
        table = pd.DataFrame(rows).set_index(["file", "seed"])
        print(f"\n{name}\n{table.round(4).to_string(na_rep='')}")
        ahead = table.loc["trained small", "points_over_compressed"]
        wins = np.sign(table.loc["trained small", ["low", "high"]]).sum(axis=1)
        told = {2: "ahead", -2: "behind"}
        verdicts = ", ".join(told.get(int(win), "level") for win in wins)
        print(
            f"trained small against compressed: {ahead.mean():+.2f} points on average; by seed: {verdicts}", flush=True
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
