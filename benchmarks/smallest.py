"""How few bytes a network needs: its packed file against float TFLite and gzip, beside a network trained small.

Each network is trained, pruned and squeezed, and its packed file is decoded and evaluated on the test images. The float
network is trained for as many epochs in all. The rate of `Squeeze` is chosen among a few by the validation rows: the
smallest file within 0.5 points of float there. The rival is a plain network of the same kind with fewer units, trained
for as long and quantized to int8, whose packed file is as large as ours. Seeds are fixed; a run of one network and one
seed takes tens of minutes on two cores.

    python benchmarks/smallest.py [--data fashion_mnist|digits|mnist] [--network mlp] [--seed 0] [--quick]

MNIST is read from its four idx files, where `--mnist FOLDER` says they are. Every run appends a line to `--out`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import masslib
from masslib import Prune, Quantize, Squeeze
from masslib.compression.recipe import compress_each

import keras
import numpy as np
from _networks import resnet8
from keras import layers

MOST_POINTS = 0.5


@dataclass(frozen=True)
class Contest:
    """A network, how it is pruned, what a bit may cost, the target, and a smaller one of its kind.

    Attributes:
        build: Makes it from the shape of an image and the number of classes.
        zeros: Sparsity by layer, or of all kernels together.
        rates: From gentle to strong.
        epochs: Of the training, of the pruning and of the squeezing.
        least: How many times smaller than float TFLite on Fashion-MNIST.
        smaller: Makes the rival, of a width.
        widths: What the rival may have, from narrow to wide.
    """

    build: Callable[..., keras.Model]
    zeros: Any
    rates: Sequence[float]
    epochs: tuple[int, int, int]
    least: float
    smaller: Callable[..., keras.Model]
    widths: Sequence[int]


def small_mlp(shape: tuple[int, ...], classes: int, width: int, seed: int) -> keras.Model:
    return masslib.models.mlp(shape, classes, hidden=(width, width), seed=seed)


def small_cnn(shape: tuple[int, ...], classes: int, width: int, seed: int) -> keras.Model:
    """A LeNet of few filters."""
    return keras.Sequential(
        [
            keras.Input(shape),
            *(layers.Conv2D(width, 5, activation="relu"), layers.MaxPooling2D()),
            *(layers.Conv2D(2 * width, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten()),
            *(layers.Dense(4 * width, activation="relu"), layers.Dense(classes, activation="softmax")),
        ],
        name="small",
    )


CONTESTS = {
    "mlp": Contest(
        masslib.models.mlp,
        {"dense1": 0.94, "dense2": 0.8},
        (0.1, 0.3, 1.0),
        (8, 8, 20),
        80,
        small_mlp,
        (6, 9, 12, 16),
    ),
    "lenet5": Contest(
        masslib.models.lenet5,
        {"conv2": 0.8, "dense1": 0.975, "dense2": 0.8},
        (0.1, 0.3, 1.0),
        (8, 8, 20),
        150,
        small_cnn,
        (4, 6, 8, 12),
    ),
    "resnet8": Contest(
        lambda shape, classes, seed=0: resnet8(shape, classes),
        0.6,
        (0.1, 0.3, 1.0),
        (8, 5, 12),
        14,
        small_cnn,
        (8, 12, 16, 24),
    ),
}


def load(name: str, folder: str | None) -> Any:
    """The splits of a data set."""
    if name != "mnist":
        return masslib.data.load(name)
    from masslib.data.idx import read

    parts = {}
    for part, stem in (("train", "train"), ("test", "t10k")):
        for kind, rank in (("images", 3), ("labels", 1)):
            (file,) = Path(folder).glob(f"{stem}-{kind}*idx{rank}*")
            parts[part, kind] = read(file)
    arrays = {part: (parts[part, "images"][..., None], parts[part, "labels"]) for part in ("train", "test")}
    return masslib.data.Splits.from_arrays(arrays["train"], test=arrays["test"], scale=1 / 255)


def trained(model: keras.Model, splits: Any, epochs: Sequence[int], seed: int) -> keras.Model:
    """Train a network, the last third of the epochs at a tenth of the learning rate."""
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    first = sum(epochs) - sum(epochs) // 3
    masslib.fit(model, splits.train, batch_size=128, epochs=first, seed=seed, verbose=0)
    model.optimizer.learning_rate = 1e-4
    masslib.fit(model, splits.train, batch_size=128, epochs=sum(epochs) - first, seed=seed + 1, verbose=0)
    return model


def compete(name: str, splits: Any, seed: int, quick: bool, folder: Path) -> dict[str, Any]:
    """Train, squeeze and measure one network; everything but the last look is judged on the validation rows."""
    contest, start = CONTESTS[name], time.perf_counter()
    epochs = (1, 1, 1) if quick else contest.epochs
    keras.utils.set_random_seed(seed)
    model = contest.build(splits.input_shape, splits.num_classes, seed=seed)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    masslib.fit(model, splits.train, batch_size=128, epochs=epochs[0], seed=seed, verbose=0)
    keras.utils.set_random_seed(seed)
    plain = trained(contest.build(splits.input_shape, splits.num_classes, seed=seed), splits, epochs, seed)
    files = {"float": masslib.export.tflite(plain, folder / "float.tflite")}
    rates = contest.rates[:1] if quick else contest.rates
    scope = {} if isinstance(contest.zeros, dict) else {"scope": "global"}
    recipes = [
        [
            Prune(contest.zeros, epochs=epochs[1], learning_rate=1e-3, **scope),
            Squeeze(rate, epochs=epochs[2], learning_rate=2e-3),
        ]
        for rate in rates
    ]
    floor = masslib.evaluate(files["float"], splits.valid).accuracy - MOST_POINTS / 100
    best = None
    for rate, small in zip(rates, compress_each(model, recipes, splits.train, seed=seed, verbose=False), strict=True):
        path = masslib.export.packed(small, folder / f"{rate}.packed")
        valid = masslib.evaluate(path, splits.valid).accuracy
        print(
            f"  {name} seed {seed} rate {rate:g}: {path.stat().st_size:,} bytes, "
            f"validation {valid:.4f}, at least {floor:.4f}",
            flush=True,
        )
        if best is None or (valid >= floor and path.stat().st_size < best[1]) or best[2] < floor <= valid:
            best = (path, path.stat().st_size, valid, rate)
    path, size, _, rate = best
    content = files["float"].read_bytes()
    found = {
        "network": name,
        "seed": seed,
        "rate": rate,
        "float_bytes": len(content),
        "packed_bytes": size,
        "times": round(len(content) / size, 1),
        "times_of_gzipped_float": round(len(gzip.compress(content, 9)) / size, 1),
        "float_accuracy": masslib.evaluate(files["float"], splits.test).accuracy,
        "packed_accuracy": masslib.evaluate(path, splits.test).accuracy,
        **rival(contest, splits, epochs, seed, size, folder, quick),
        "seconds": round(time.perf_counter() - start),
    }
    found["drop_points"] = round(100 * (found["float_accuracy"] - found["packed_accuracy"]), 2)
    return found


def rival(
    contest: Contest, splits: Any, epochs: Sequence[int], seed: int, size: int, folder: Path, quick: bool
) -> dict[str, Any]:
    """The widest small network whose packed int8 file is no larger than ours, or the narrowest one."""
    best = None
    for width in contest.widths[:1] if quick else contest.widths:
        keras.utils.set_random_seed(seed)
        small = contest.smaller(splits.input_shape, splits.num_classes, width, seed=seed)
        small.compile(loss="sparse_categorical_crossentropy")
        path = masslib.export.packed(masslib.compress(small, Quantize("dynamic")), folder / "rival.packed")
        if best is None or path.stat().st_size <= size:
            best = width
    keras.utils.set_random_seed(seed)
    small = trained(contest.smaller(splits.input_shape, splits.num_classes, best, seed=seed), splits, epochs, seed)
    path = masslib.export.packed(masslib.compress(small, Quantize("dynamic")), folder / "rival.packed")
    return {
        "rival_width": best,
        "rival_bytes": path.stat().st_size,
        "rival_accuracy": masslib.evaluate(path, splits.test).accuracy,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion_mnist", choices=("fashion_mnist", "digits", "mnist"))
    parser.add_argument("--mnist", help="folder of the idx files of MNIST")
    parser.add_argument("--network", choices=CONTESTS, nargs="*", default=list(CONTESTS))
    parser.add_argument("--seed", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="one epoch of each phase and one rate")
    parser.add_argument("--out", type=Path, help="append the results here, one line of JSON per run")
    given = parser.parse_args()
    splits = load(given.data, given.mnist)
    for name in given.network:
        if min(splits.input_shape[:2]) < 16 and name == "lenet5":
            print("lenet5 needs images of at least 16 x 16")
            continue
        runs = []
        for seed in given.seed:
            with tempfile.TemporaryDirectory() as folder:
                runs.append({"data": given.data} | compete(name, splits, seed, given.quick, Path(folder)))
            print(json.dumps(runs[-1]), flush=True)
            if given.out is not None:
                with given.out.open("a") as file:
                    file.write(json.dumps(runs[-1]) + "\n")
        mean = {
            key: np.mean([run[key] for run in runs])
            for key in ("times", "drop_points", "packed_bytes", "rival_accuracy")
        }
        print(
            f"{name} on {given.data}, mean of {len(runs)}: {mean['times']:.1f} times "
            f"at a loss of {mean['drop_points']:.2f} points"
        )
        if given.data == "fashion_mnist":
            met = mean["times"] >= CONTESTS[name].least and mean["drop_points"] <= MOST_POINTS
            print(f"target: {CONTESTS[name].least} times within {MOST_POINTS} points: {'met' if met else 'MISSED'}")


if __name__ == "__main__":
    main()
