"""How few bytes a network needs: its packed file against float TFLite and gzip, beside a network trained small.

Each network is trained, pruned and squeezed, and its packed file is decoded and evaluated on the test images. The
float network goes on from the same training instead, for as many epochs in all. The rate of `Squeeze` is chosen among
a few by the validation rows: the smallest file within 0.5 points of float there. In LeNet-300-100 each unit of the
first layer sees a window of the image. While it is squeezed, the network learns from labels and the answers of the
float network in equal parts (Hinton et al., 2015). The rival is a plain network of the same kind with fewer units,
trained for as long, from the same answers, and quantized to int8, whose packed file is as large as ours; beside
LeNet-300-100 stands a second one, of windows too. Seeds are fixed. On one core a seed takes from some minutes to an
hour of computing.

    python benchmarks/smallest.py [--data fashion_mnist|digits|mnist] [--network mlp] [--seed 0] [--quick]

MNIST is read from its four idx files, where `--mnist FOLDER` says they are. Every run appends a line to `--out`. With
`--keep FOLDER` a run that was ended goes on from the networks that it had trained.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import masslib
from masslib import Prune, Quantize, Squeeze

import keras
import numpy as np
import tensorflow as tf
from _networks import resnet8
from keras import layers

MOST_POINTS = 0.5
FEW = 10_000
WINDOWED = (96, 32)  # units of a rival of windows, whose file is a little smaller than ours
SOFT = 0.5  # share of the float network's answers in what is learned


@dataclass(frozen=True)
class Contest:
    """A network, how it is pruned, what a bit may cost, the target, and a smaller one of its kind.

    Attributes:
        build: Makes it from the shape of an image and the number of classes.
        zeros: Sparsity by layer, or of all kernels together.
        window: Share of the height and of the width of the image that a unit of the first dense layer sees.
        rates: From gentle to strong.
        epochs: Of the training, of the pruning and of the squeezing.
        batch_size: Rows per step.
        least: How many times smaller than float TFLite on Fashion-MNIST.
        smaller: Makes the rival, of a width.
        widths: What the rival may have, from narrow to wide.
    """

    build: Callable[..., keras.Model]
    zeros: Any
    window: float
    rates: Sequence[float]
    epochs: tuple[int, int, int]
    batch_size: int
    least: float
    smaller: Callable[..., keras.Model]
    widths: Sequence[int]

    def on(self, rows: int) -> Contest:
        """The same for few images: more epochs of smaller batches, which are about as many steps."""
        if rows > FEW:
            return self
        return replace(self, epochs=tuple(6 * epochs for epochs in self.epochs), batch_size=64)


def small_mlp(shape: tuple[int, ...], classes: int, width: int, seed: int) -> keras.Model:
    return masslib.models.mlp(shape, classes, hidden=(width, width), seed=seed)


def small_cnn(shape: tuple[int, ...], classes: int, width: int, seed: int) -> keras.Model:
    """A LeNet of few filters."""
    conv = partial(layers.Conv2D, activation="relu", padding="valid" if min(shape[:2]) >= 16 else "same")
    return keras.Sequential(
        [
            keras.Input(shape),
            *(conv(width, 5), layers.MaxPooling2D()),
            *(conv(2 * width, 3), layers.MaxPooling2D(), layers.Flatten()),
            *(layers.Dense(4 * width, activation="relu"), layers.Dense(classes, activation="softmax")),
        ],
        name="small",
    )


CONTESTS = {
    "mlp": Contest(
        build=masslib.models.mlp,
        zeros={"dense2": 0.75},
        window=10 / 28,
        rates=(0.15,),
        epochs=(6, 8, 30),
        batch_size=256,
        least=80,
        smaller=small_mlp,
        widths=range(8, 18),
    ),
    "lenet5": Contest(
        build=masslib.models.lenet5,
        zeros={"conv2": 0.6, "dense1": 0.96, "dense2": 0.6},
        window=1,
        rates=(0.4,),
        epochs=(3, 3, 20),
        batch_size=256,
        least=150,
        smaller=small_cnn,
        widths=range(4, 12),
    ),
    "resnet8": Contest(
        build=lambda shape, classes, seed=0: resnet8(shape, classes),
        zeros=0.6,
        window=1,
        rates=(0.2,),
        epochs=(4, 2, 6),
        batch_size=256,
        least=14,
        smaller=small_cnn,
        widths=range(6, 16),
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


def train(model: keras.Model, data: Any, batch_size: int, epochs: int, rate: float, seed: int) -> keras.Model:
    """Train on, at this learning rate."""
    model.optimizer.learning_rate = rate
    masslib.fit(model, data, batch_size=batch_size, epochs=epochs, seed=seed, verbose=0)
    return model


def softened(data: Any, teacher: keras.Model) -> Any:
    """The same images, with probabilities instead of labels."""
    x, y = data[:]
    answers = teacher.predict(x, batch_size=1000, verbose=0)
    return masslib.data.from_arrays(x, (1 - SOFT) * np.eye(answers.shape[1], dtype="float32")[y] + SOFT * answers)


def windowed(model: keras.Model, data: Any, size: float) -> keras.Model:
    """Let each unit of the first dense layer see a window of the image; its other weights become zero, and stay so.

    Pixels side by side belong together, so a part of the image makes more of a few weights than points anywhere do. The
    window lies where most of what the unit gets comes from; where others have theirs already, that counts less.
    """
    layer, (images, _) = model.get_layer("dense1"), data[:FEW]
    kernel, *bias = layer.get_weights()
    height, width = images.shape[1:3]
    high, wide = round(size * height), round(size * width)
    parts = (kernel * images.std(axis=0).reshape(-1, 1)) ** 2
    parts = parts.reshape(height, width, -1, kernel.shape[1]).sum(axis=2)
    sums = np.lib.stride_tricks.sliding_window_view(parts, (high, wide), axis=(0, 1)).sum(axis=(-2, -1))
    taken, seen = np.zeros(sums.shape[:2]), np.zeros(parts.shape, bool)
    for unit in range(kernel.shape[1]):
        top, left = place = np.unravel_index((sums[..., unit] / (1 + taken)).argmax(), taken.shape)
        taken[place] += 1
        seen[top : top + high, left : left + wide, unit] = True
    grown = np.sqrt(parts.sum(axis=(0, 1)) / (parts * seen).sum(axis=(0, 1)))  # so that a unit gets as much as before
    channels = kernel.reshape(height, width, -1, kernel.shape[1]) * grown
    layer.set_weights([(channels * seen[:, :, None]).reshape(kernel.shape), *bias])
    return model


def in_windows(
    model: keras.Model, contest: Contest, splits: Any, soft: Any, epochs: int, rate: float, seed: int
) -> masslib.Compressed:
    """Train on in windows: `Squeeze` keeps zeros, and at this price the other weights keep their seven bits or so."""
    model, step = (
        compiled(windowed(model, splits.train, contest.window)),
        Squeeze(1e-4, epochs=epochs, learning_rate=rate),
    )
    return masslib.compress(model, step, soft, batch_size=contest.batch_size, seed=seed, verbose=False)


def begun(build: Callable[..., keras.Model], splits: Any, seed: int, *options: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = build(splits.input_shape, splits.num_classes, *options, seed=seed)
    return compiled(model, "sparse_categorical_crossentropy")


def compiled(model: keras.Model, loss: str = "categorical_crossentropy") -> keras.Model:
    model.compile("adam", loss)
    return model


def kept(path: Path, make: Callable[[], keras.Model]) -> keras.Model:
    """The model in the file, which is made first if it is not there."""
    if not path.exists():
        part = path.with_stem(f"{path.stem}_part")
        make().save(part)
        part.rename(path)
    return keras.models.load_model(path)


def compete(name: str, splits: Any, seed: int, quick: bool, folder: Path) -> dict[str, Any]:
    """Train, squeeze and measure one network; everything but the last look is judged on the validation rows."""
    contest, start = CONTESTS[name].on(len(splits.train)), time.process_time()
    if quick:
        contest = replace(contest, epochs=(1, 1, 1), rates=contest.rates[:1], widths=contest.widths[:1])
    (first, pruning, squeezing), batch, total = contest.epochs, contest.batch_size, sum(contest.epochs)

    def begin() -> keras.Model:
        return train(begun(contest.build, splits, seed), splits.train, batch, first, 1e-3, seed)

    def go_on() -> keras.Model:
        plain, rest = kept(folder / "begun.keras", begin), total - first - total // 3
        plain = train(plain, splits.train, batch, rest, 1e-3, seed + 1)
        return train(plain, splits.train, batch, total // 3, 1e-4, seed + 2)

    def prune() -> keras.Model:
        less, data, epochs = model, splits.train, pruning
        if contest.window < 1:
            data, epochs = soft, max(1, pruning // 2)
            less = compiled(in_windows(model, contest, splits, soft, epochs, 2e-3, seed).model)
        scope = {} if isinstance(contest.zeros, dict) else {"scope": "global"}
        step = Prune(contest.zeros, epochs=epochs, learning_rate=2e-3, **scope)
        return masslib.compress(less, step, data, batch_size=batch, seed=seed, verbose=False).model

    model = kept(folder / "begun.keras", begin)
    teacher = kept(folder / "plain.keras", go_on)
    plain, soft = masslib.export.tflite(teacher, folder / "float.tflite"), softened(splits.train, teacher)
    pruned = kept(folder / "pruned.keras", prune)
    floor, best = masslib.evaluate(plain, splits.valid).accuracy - MOST_POINTS / 100, None
    for rate in contest.rates:
        path = folder / f"{rate}.packed"
        if not path.exists():
            keras.utils.set_random_seed(seed)
            step = Squeeze(rate, epochs=squeezing, learning_rate=3e-3)
            small = masslib.compress(compiled(pruned), step, soft, batch_size=batch, seed=seed, verbose=False)
            masslib.export.packed(small, path)
        size, valid = path.stat().st_size, masslib.evaluate(path, splits.valid).accuracy
        print(f"  {name} {seed}, rate {rate:g}: {size:,} bytes, validation {valid:.4f}, least {floor:.4f}", flush=True)
        if best is None or (valid >= floor and size < best[1]) or best[2] < floor <= valid:
            best = (path, size, valid, rate)
    path, size, _, rate = best
    content = plain.read_bytes()
    found = {
        "network": name,
        "seed": seed,
        "rate": rate,
        "epochs": contest.epochs,
        "float_bytes": len(content),
        "packed_bytes": size,
        "times": round(len(content) / size, 1),
        "times_of_gzipped_float": round(len(gzip.compress(content, 9)) / size, 1),
        "float_accuracy": masslib.evaluate(plain, splits.test).accuracy,
        "packed_accuracy": masslib.evaluate(path, splits.test).accuracy,
        **rival(contest, splits, soft, seed, size, folder),
        **rival_of_windows(contest, splits, soft, seed, folder),
        "cpu_seconds": round(time.process_time() - start),
    }
    found["drop_points"] = round(100 * (found["float_accuracy"] - found["packed_accuracy"]), 2)
    return found


def rival(contest: Contest, splits: Any, soft: Any, seed: int, size: int, folder: Path) -> dict[str, Any]:
    """The widest small network whose packed int8 file is no larger than ours, or the narrowest one."""
    path, best = folder / "rival.packed", contest.widths[0]
    for width in contest.widths:
        small = begun(contest.smaller, splits, seed, width)
        masslib.export.packed(masslib.compress(small, Quantize("dynamic")), path)
        if path.stat().st_size > size:
            break
        best = width
    total, batch = sum(contest.epochs), contest.batch_size
    small = compiled(begun(contest.smaller, splits, seed, best))
    small = train(small, soft, batch, total - total // 3, 1e-3, seed)
    small = train(small, soft, batch, total // 3, 1e-4, seed + 1)
    masslib.export.packed(masslib.compress(small, Quantize("dynamic")), path)
    return {
        "rival_width": best,
        "rival_bytes": path.stat().st_size,
        "rival_accuracy": masslib.evaluate(path, splits.test).accuracy,
    }


def rival_of_windows(contest: Contest, splits: Any, soft: Any, seed: int, folder: Path) -> dict[str, Any]:
    """A narrow network that sees windows as ours does, and trains for as long: it tells what is the shape's merit."""
    if contest.window == 1:
        return {}
    first, total = contest.epochs[0], sum(contest.epochs)
    small = compiled(begun(partial(masslib.models.mlp, hidden=WINDOWED), splits, seed))
    small = train(small, soft, contest.batch_size, first, 1e-3, seed)
    keras.utils.set_random_seed(seed)
    small = in_windows(small, contest, splits, soft, total - first, 3e-3, seed)
    path = masslib.export.packed(small, folder / "windows.packed")
    accuracy = masslib.evaluate(path, splits.test).accuracy
    return {"windows_units": WINDOWED, "windows_bytes": path.stat().st_size, "windows_accuracy": accuracy}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion_mnist", choices=("fashion_mnist", "digits", "mnist"))
    parser.add_argument("--mnist", help="folder of the idx files of MNIST")
    parser.add_argument("--network", choices=CONTESTS, nargs="*", default=list(CONTESTS))
    parser.add_argument("--seed", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="one epoch of each phase and one rate")
    parser.add_argument("--out", type=Path, help="append the results here, one line of JSON per run")
    parser.add_argument("--keep", type=Path, help="keep what was trained here, and go on from it")
    parser.add_argument("--threads", type=int, help="threads of TensorFlow")
    given = parser.parse_args()
    if given.threads:
        tf.config.threading.set_intra_op_parallelism_threads(given.threads)
        tf.config.threading.set_inter_op_parallelism_threads(given.threads)
    splits = load(given.data, given.mnist)
    for name in given.network:
        if min(splits.input_shape[:2]) < 16 and name == "lenet5":
            print("lenet5 needs images of at least 16 x 16")
            continue
        runs = []
        for seed in given.seed:
            kept_in = given.keep and given.keep / f"{given.data}_{name}_{seed}"
            if kept_in:
                kept_in.mkdir(parents=True, exist_ok=True)
            with nullcontext(kept_in) if kept_in else tempfile.TemporaryDirectory() as folder:
                runs.append({"data": given.data} | compete(name, splits, seed, given.quick, Path(folder)))
            print(json.dumps(runs[-1]), flush=True)
            if given.out is not None:
                with given.out.open("a") as file:
                    file.write(json.dumps(runs[-1]) + "\n")
        mean = {
            key: np.mean([run[key] for run in runs])
            for key in ("times", "drop_points", "packed_bytes", "packed_accuracy", "rival_accuracy")
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
