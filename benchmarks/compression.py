"""How small networks get without losing accuracy, beside the plain pipeline of TFMOT on the same networks.

Each network is trained on Fashion-MNIST and compressed by one recipe of masslib. TFMOT alone, on the same network
rebuilt in Keras 2, prunes, clusters and quantizes as its guides say: one sparsity for all layers, the same epochs and
learning rates. Both files run in LiteRT; sizes are those of the gzipped files, against the gzipped float file, and
accuracies those on the 10,000 test images. The target counts the points lost against the float network that was
compressed. Fine-tuning trains on, so the float network is trained on as well, for the epochs and at the learning rates
of the recipe: a harder yardstick, which is reported and decides nothing. `small_cnn` loses channels instead, for speed.
Seeds are fixed.

    python benchmarks/compression.py [lenet5 mlp resnet8 small_cnn]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import masslib
from masslib import Cluster, Prune, PruneChannels, Quantize, QuantizeAware
from masslib._util.quiet import quiet
from masslib.compression.tfmot.toolkit import tfmot

import keras
import pandas as pd
import tensorflow as tf
import tf_keras
from _networks import resnet8

SPLITS = masslib.data.load("fashion_mnist")
MOST_POINTS = 0.5
LENET_ZEROS = {"conv2": 0.85, "dense1": 0.981, "dense2": 0.85}
MLP_ZEROS = {"dense1": 0.957, "dense2": 0.875}


@dataclass(frozen=True)
class Contest:
    """One network, what it is compressed by, and what has to come out: times smaller, or times faster."""

    build: Callable[..., keras.Model]
    epochs: int
    recipe: list
    least: float
    column: str = "times_smaller"


CONTESTS = {
    "lenet5": Contest(
        masslib.models.lenet5,
        8,
        [
            Prune(LENET_ZEROS, epochs=8, learning_rate=1e-3),
            Prune(LENET_ZEROS, schedule="constant", epochs=4, learning_rate=3e-4),
            Cluster({"conv2": 16, "dense1": 8, "dense2": 16}, epochs=1, learning_rate=1e-4),
            QuantizeAware(epochs=1, learning_rate=5e-5),
        ],
        60,
    ),
    "mlp": Contest(
        masslib.models.mlp,
        8,
        [
            Prune(MLP_ZEROS, epochs=20, learning_rate=1e-3),
            Prune(MLP_ZEROS, schedule="constant", epochs=6, learning_rate=3e-4),
            Cluster({"dense1": 8, "dense2": 16}, epochs=1, learning_rate=1e-4),
            QuantizeAware(epochs=1, learning_rate=5e-5),
        ],
        40,
    ),
    "resnet8": Contest(
        resnet8,
        6,
        [
            Prune(0.72, scope="global", epochs=4, learning_rate=1e-3),
            Cluster(16, epochs=1, learning_rate=3e-4),
            QuantizeAware(epochs=1, learning_rate=1e-4),
        ],
        8,
    ),
    "small_cnn": Contest(
        masslib.models.small_cnn,
        4,
        [PruneChannels(0.5, epochs=3, learning_rate=5e-4), Quantize("dynamic")],
        3,
        "times_faster",
    ),
}


def plain_tfmot(model: keras.Model, recipe: list, path: Path) -> Path:
    """The same techniques as TFMOT's guides chain them, with the share of zeros of our recipe in every layer."""
    sparsity, clustering = tfmot().sparsity.keras, tfmot().clustering.keras
    quantization, combine = tfmot().quantization.keras, tfmot().experimental.combine
    *prunes, cluster, aware = recipe
    stripped = masslib.bridge.to_tf_keras(model)

    def fine_tune(network: tf_keras.Model, step: Prune | Cluster | QuantizeAware, callbacks: tuple = ()) -> None:
        network.compile(tf_keras.optimizers.Adam(step.learning_rate), "sparse_categorical_crossentropy")
        with quiet():
            batches = SPLITS.train.batches(128, seed=0, epochs=step.epochs)
            network.fit(batches, verbose=0, callbacks=list(callbacks))

    for prune in prunes:
        share, half = overall(model, prune), prune.epochs * SPLITS.train.steps(128) // 2
        rising = sparsity.PolynomialDecay(0.0, share, begin_step=0, end_step=half)
        schedule = sparsity.ConstantSparsity(share, begin_step=0) if prune.schedule == "constant" else rising
        wrapped = sparsity.prune_low_magnitude(stripped, pruning_schedule=schedule)
        fine_tune(wrapped, prune, (sparsity.UpdatePruningStep(),))
        stripped = sparsity.strip_pruning(wrapped)
    wrapped = clustering.cluster_weights(
        stripped,
        number_of_clusters=16,
        cluster_centroids_init=clustering.CentroidInitialization.KMEANS_PLUS_PLUS,
        preserve_sparsity=True,
    )
    fine_tune(wrapped, cluster)
    scheme = combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=True)
    annotated = quantization.quantize_annotate_model(clustering.strip_clustering(wrapped))
    quantized = quantization.quantize_apply(annotated, scheme)
    fine_tune(quantized, aware)
    converter = tf.lite.TFLiteConverter.from_keras_model(quantized)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    with quiet():
        path.write_bytes(converter.convert())
    return path


def overall(model: keras.Model, prune: Prune) -> float:
    """The share of zeros of all kernels together that a recipe asks for."""
    if not isinstance(prune.sparsity, dict):
        return prune.sparsity
    kernels = {layer.name: layer.kernel.shape for layer in model.layers if hasattr(layer, "kernel")}
    sizes = {name: int(tf.TensorShape(shape).num_elements()) for name, shape in kernels.items()}
    return sum(prune.sparsity.get(name, 0.0) * size for name, size in sizes.items()) / sum(sizes.values())


def compete(name: str, folder: Path) -> tuple[pd.DataFrame, bool]:
    """Train, compress and measure one network; return its rows, and whether the target was met."""
    contest = CONTESTS[name]
    keras.utils.set_random_seed(0)
    model = contest.build(SPLITS.input_shape, SPLITS.num_classes)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    masslib.fit(model, SPLITS.train, batch_size=128, epochs=contest.epochs, verbose=0)
    start = time.perf_counter()
    files = {"float": masslib.export.tflite(model, folder / "float.tflite")}
    small = masslib.compress(model, contest.recipe, SPLITS.train, verbose=False)
    files["masslib"] = masslib.export.tflite(small, folder / "masslib.tflite")
    seconds = {"masslib": time.perf_counter() - start}
    if contest.column == "times_smaller":
        start = time.perf_counter()
        try:
            files["plain TFMOT"] = plain_tfmot(model, contest.recipe, folder / "plain.tflite")
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            print(f"plain TFMOT refuses {name}: {str(error).splitlines()[0][:100]}")
        seconds["plain TFMOT"] = time.perf_counter() - start
    for number, step in enumerate(step for step in contest.recipe if not isinstance(step, Quantize)):
        model.optimizer.learning_rate = step.learning_rate
        masslib.fit(model, SPLITS.train, batch_size=128, epochs=step.epochs, seed=1 + number, verbose=0)
    files["float, trained on"] = masslib.export.tflite(model, folder / "trained_on.tflite")
    times = masslib.measure.latencies(files, runs=400)
    sizes = {row: masslib.measure.file_size(path) for row, path in files.items()}
    table = pd.DataFrame(
        {
            "accuracy": {row: masslib.evaluate(path, SPLITS.test).accuracy for row, path in files.items()},
            "gzipped_kb": {row: size.gzipped / 1000 for row, size in sizes.items()},
            "times_smaller": {row: sizes["float"].gzipped / size.gzipped for row, size in sizes.items()},
            "median_ms": {row: time.median_ms for row, time in times.items()},
            "times_faster": {row: times["float"].median_ms / time.median_ms for row, time in times.items()},
            "seconds": seconds,
        }
    ).loc[list(files)]
    lost = 100 * (table["accuracy"][["float", "float, trained on"]].to_numpy()[:, None] - table["accuracy"].to_numpy())
    table.insert(1, "drop_points", lost[0])
    table.insert(2, "of_trained_on", lost[1])
    ours = table.loc["masslib"]
    return table, bool(ours[contest.column] >= contest.least and ours["drop_points"] <= MOST_POINTS)


def main() -> int:
    missed = []
    for name in sys.argv[1:] or CONTESTS:
        with tempfile.TemporaryDirectory() as folder:
            table, met = compete(name, Path(folder))
        contest = CONTESTS[name]
        print(f"\n{name}: {contest.recipe}\n{table.round(4).to_string()}")
        target = f"{contest.column} at least {contest.least} within {MOST_POINTS} points"
        print(f"target {target}: {'met' if met else 'MISSED'}")
        print(f"points lost against the float network trained on: {table['of_trained_on']['masslib']:.2f}", flush=True)
        missed += [] if met else [name]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
