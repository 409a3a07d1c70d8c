"""How well a small network learns five kinds of flowers from 2,899 photos, and what is left of it when it is small.

A residual network is trained from scratch on the photos of some people and judged on those of others: as a float32
TFLite file, in int8, and squeezed into a packed file. Nothing is chosen by the test rows, which are looked at once for
each seed and file. The figure of merit is the mean of the seeds. The interval of a seed (Wilson) says how far off 727
photos can be, the range of the seeds what the seed does.

The training begins on small photos, which cost less, and ends on larger ones (Tan and Le, "EfficientNetV2", 2021). The
files see photos that are larger still: the zoom of the augmentation shows flowers from nearer than they are in a whole
photo (Touvron et al., "Fixing the train-test resolution discrepancy", 2019). Each file is asked about a photo and about
its mirror image, and the probabilities are averaged: twice the time, not a byte more; "asked once" tells what is left
without. All three were chosen on 290 validation photos of networks that had been trained without them.

    python benchmarks/photos.py [--seed 0 1 2] [--epochs 130] [--mix mixup] [--valid] [--out results.jsonl]

With `--valid` the validation photos are left out of the training, and judged instead of the test: for choices. The
training of a seed may take ten minutes on two cores. Every run appends a line to `--out`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import tempfile
import time
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import masslib
from masslib import Quantize, Squeeze, data

import keras
import numpy as np
from keras import layers

WIDTH, BATCH, EPOCHS = 24, 32, 130
SIZES, SIZE = ((40, 0.6), (64, 0.4)), 80  # of the photos of training, with their shares of the epochs; of the files
LEAST, MOST_SECONDS = 0.80, 600
# Photos of flowers are flowers from the left and from the right, near and far, in sun and shade.
AUGMENT = (
    layers.RandomFlip("horizontal"),
    layers.RandomRotation(0.08, fill_mode="reflect"),
    layers.RandomTranslation(0.1, 0.1, fill_mode="reflect"),
    layers.RandomZoom((-0.5, 0.1), fill_mode="reflect"),
    layers.RandomContrast(0.3, value_range=(0, 1)),
    layers.RandomBrightness(0.2, value_range=(0, 1)),
)
# How photos are mixed in pairs, with their labels: laid over one another, or a piece of one put into the other
MIX = {"mixup": partial(layers.MixUp, 0.2), "cutmix": partial(layers.CutMix, 1.0)}
SQUEEZE, VIEWS = Squeeze(0.05, epochs=4, learning_rate=1e-3), 2


def network(shape: tuple[int, ...], classes: int) -> keras.Model:
    """A residual network of four blocks (He et al., 2016), with 341,000 weights."""

    def conv(x: keras.KerasTensor, filters: int, size: int = 3, strides: int = 1) -> keras.KerasTensor:
        start = keras.initializers.HeNormal()
        x = layers.Conv2D(filters, size, strides, "same", use_bias=False, kernel_initializer=start)(x)
        return layers.BatchNormalization(momentum=0.95)(x)

    entry = keras.Input(shape)
    x = layers.ReLU()(conv(entry, WIDTH, strides=2))
    for filters, strides in ((WIDTH, 1), (2 * WIDTH, 2), (4 * WIDTH, 2), (4 * WIDTH, 1)):
        y = conv(layers.ReLU()(conv(x, filters, strides=strides)), filters)
        if strides > 1:
            x = conv(layers.AveragePooling2D(strides, padding="same")(x), filters, size=1)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(entry, layers.Dense(classes, activation="softmax")(x), name="residual")


def photos_of(size: int) -> data.Splits:
    return data.load("flowers", image_size=(size, size))


def known(size: int, valid: bool) -> data.Subset:
    """What is trained on, as bytes in memory, with one-hot labels, which the smoothed loss takes.

    Args:
        size: Height and width.
        valid: Whether the validation photos are left out.
    """
    splits = photos_of(size)
    parts = [splits.train] if valid else [splits.train, splits.valid]
    labels = np.concatenate([part.y for part in parts])
    pixels = np.concatenate([part.rows.raw(slice(None)) for part in parts])
    return data.from_arrays(pixels, np.eye(splits.num_classes, dtype="float32")[labels])


class Mirrored:
    """A network that is asked about each photo and about its mirror image."""

    def __init__(self, predictor: Any):
        self._predictor = predictor

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The mean of both probabilities, `(b, classes)`."""
        both = (self._predictor.predict(images) for images in (x, np.ascontiguousarray(x[:, :, ::-1])))
        return sum(both) / 2


def train(valid: bool, epochs: int, seed: int, mix: str = "mixup") -> tuple[keras.Model, float]:
    """Train a network; return it, for photos of `SIZE`, and the seconds of its training."""
    phases = [known(size, valid) for size, _ in SIZES]
    keras.utils.set_random_seed(seed)
    model = network((None, None, 3), phases[0].y.shape[1])
    steps = phases[0].steps(BATCH)
    warm = epochs * steps // 10
    rate = keras.optimizers.schedules.CosineDecay(1e-5, epochs * steps - warm, warmup_target=3e-3, warmup_steps=warm)
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.05),
        keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        metrics=["accuracy"],
    )
    ends = np.rint(epochs * np.cumsum([share for _, share in SIZES])).astype(int).tolist()
    both, start = itemgetter("images", "labels"), time.perf_counter()
    for rows, first, end in zip(phases, [0, *ends], ends, strict=False):
        batches = rows.batches(BATCH, epochs=end - first, seed=seed + first, augment=keras.Sequential(AUGMENT))
        mixing = MIX[mix](seed=seed + first)  # one after another, as its seed moves on with every call
        mixed = batches.map(lambda x, y, to=mixing: both(to({"images": x, "labels": y}, training=True)))
        masslib.fit(model, mixed.prefetch(2), epochs=end - first, steps_per_epoch=steps, verbose=2)
    seconds = time.perf_counter() - start
    larger = network((SIZE, SIZE, 3), phases[0].y.shape[1])
    larger.set_weights(model.get_weights())
    larger.compile("adamw", keras.losses.CategoricalCrossentropy(label_smoothing=0.1), metrics=["accuracy"])
    return larger, seconds


def views(rows: data.Subset, seed: int) -> data.Subset:
    """Augmented photos in memory, for the step of compression that trains."""
    batches = rows.batches(BATCH, epochs=VIEWS, seed=seed, augment=keras.Sequential(AUGMENT))
    x, y = zip(*batches.as_numpy_iterator(), strict=True)
    return data.from_arrays(np.rint(255 * np.concatenate(x)).astype(np.uint8), np.concatenate(y))


def files_of(model: keras.Model, rows: data.Subset, seed: int, folder: Path) -> dict[str, Path]:
    """The network as it is, in int8, and squeezed."""
    int8 = masslib.compress(model, Quantize("int8"), rows, seed=seed, verbose=False)
    squeezed = masslib.compress(model, SQUEEZE, views(rows, seed), batch_size=64, seed=seed, verbose=False)
    return {
        "float": masslib.export.tflite(model, folder / "float.tflite"),
        "int8": masslib.export.tflite(int8, folder / "int8.tflite"),
        "squeezed": masslib.export.packed(squeezed, folder / "squeezed.packed"),
    }


def run(epochs: int, seed: int, mix: str, valid: bool, folder: Path) -> dict[str, Any]:
    """Train, compress and judge on the test rows, or on the validation rows."""
    cpu = time.process_time()
    model, seconds = train(valid, epochs, seed, mix)
    found = {"seed": seed, "epochs": epochs, "mix": mix, "judged": "valid" if valid else "test"}
    found |= {"seconds": round(seconds), "cpu": round(time.process_time() - cpu)}
    judged, rows = getattr(photos_of(SIZE), found["judged"]), known(SIZE, valid)
    for name, path in files_of(model, rows, seed, folder).items():
        with masslib.runtime.load(path) as predictor:
            right, once = (
                round(masslib.evaluate(asked, judged, task="multiclass").accuracy * len(judged))
                for asked in (Mirrored(predictor), predictor)
            )
        size = len(gzip.compress(path.read_bytes(), 9))
        found[name] = {"bytes": size, "right": right, "once": once, "of": len(judged)}
    return found


def table(runs: list[dict[str, Any]]) -> bool:
    """Print the runs and their mean; tell whether the targets were met."""
    from scipy.stats import binomtest

    print(f"{'':<10}{'seconds':>9}{'CPU s':>7}", *(f"{name:>26}" for name in ("float", "int8", "squeezed")))
    for found in runs:
        cells = []
        for name in ("float", "int8", "squeezed"):
            right, of = found[name]["right"], found[name]["of"]
            low, high = binomtest(right, of).proportion_ci(method="wilson")
            cells.append(f"{right / of:.1%} [{low:.1%}, {high:.1%}] {found[name]['bytes'] / 1000:.0f} kB")
        print(f"seed {found['seed']:<5}{found['seconds']:>9}{found['cpu']:>7}", *(f"{cell:>26}" for cell in cells))
    means = {}
    for name in ("float", "int8", "squeezed"):
        shares = [found[name]["right"] / found[name]["of"] for found in runs]
        means[name] = f"{np.mean(shares):.1%}, {min(shares):.1%} to {max(shares):.1%}"
    print(f"{'mean':<26}", *(f"{cell:>26}" for cell in means.values()))
    once = {name: np.mean([found[name]["once"] / found[name]["of"] for found in runs]) for name in means}
    print(f"{'asked once':<26}", *(f"{share:>26.1%}" for share in once.values()))
    accuracy = np.mean([found["float"]["right"] / found["float"]["of"] for found in runs])
    slowest = max(found["seconds"] for found in runs)
    met = accuracy >= LEAST and slowest <= MOST_SECONDS
    print(
        f"{accuracy:.1%} after {slowest} s at most; target {LEAST:.0%} after {MOST_SECONDS} s: "
        f"{'met' if met else 'MISSED'}"
    )
    return bool(met)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--mix", choices=MIX, default="mixup")
    parser.add_argument("--valid", action="store_true", help="judge validation photos, which are not trained on then")
    parser.add_argument("--out", type=Path, help="append the results here, one line of JSON per run")
    given = parser.parse_args()
    print(f"{photos_of(SIZE)}, on {len(os.sched_getaffinity(0))} cores")
    runs = []
    for seed in given.seed:
        with tempfile.TemporaryDirectory() as folder:
            runs.append(run(given.epochs, seed, given.mix, given.valid, Path(folder)))
        if given.out is not None:
            with given.out.open("a") as file:
                file.write(json.dumps(runs[-1]) + "\n")
        print(json.dumps(runs[-1]), flush=True)
    return 0 if table(runs) else 1


if __name__ == "__main__":
    sys.exit(main())
