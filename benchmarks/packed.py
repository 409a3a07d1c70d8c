"""Bytes of packed files against gzip and xz, and how long they take to unpack on one core.

LeNet-300-100, LeNet-5, ResNet-8 and small_cnn are trained for some steps on Fashion-MNIST, then quantized; once as they
are, once pruned by 90 %, once with 16 clusters, and once all of it by quantization-aware training. Every packed file is
unpacked and compared with the TFLite file, byte by byte. Targets: 0.75 of `gzip -9` and 0.85 of `xz -9e` in the
geometric mean of the networks, never more than xz; ResNet-8 in 50 ms and small_cnn in a second.

    python benchmarks/packed.py [--steps 100] [--network resnet8]
"""

from __future__ import annotations

import argparse
import gzip
import lzma
import tempfile
import time
from pathlib import Path

import masslib
from masslib import Cluster, Prune, Quantize, QuantizeAware
from masslib.runtime.packed import pack, unpack

import keras
import numpy as np
import pandas as pd
from _networks import resnet8

NETWORKS = {
    "mlp": masslib.models.mlp,
    "lenet5": masslib.models.lenet5,
    "resnet8": resnet8,
    "small_cnn": masslib.models.small_cnn,
}
MOST_OF_GZIP, MOST_OF_XZ = 0.75, 0.85
MOST_SECONDS = {"resnet8": 0.05, "small_cnn": 1.0}
ROUNDS = 5


def recipes(steps: int) -> dict[str, list]:
    fewer = Prune(0.9, max_steps=steps, epochs=9, scope="global", min_share=0)
    shared = Cluster(16, max_steps=max(steps // 10, 1))
    return {
        "int8": [Quantize("int8")],
        "clustered, int8": [shared, Quantize("int8")],
        "pruned, int8": [fewer, Quantize("int8")],
        "pruned, clustered, QAT": [fewer, shared, QuantizeAware(max_steps=max(steps // 10, 1))],
    }


def measured(path: Path) -> dict[str, float]:
    """Sizes as shares of what others make of the file, and the time for unpacking."""
    content = path.read_bytes()
    packed, times = pack(content), []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        again = unpack(packed)
        times.append(time.perf_counter() - start)
    if again != content:
        raise SystemExit(f"{path.name} does not come back")
    xz = len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))
    of_gzip, of_xz = len(packed) / len(gzip.compress(content, 9)), len(packed) / xz
    return {"bytes": len(packed), "of gzip": of_gzip, "of xz": of_xz, "unpacking ms": float(1000 * np.median(times))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, nargs="*", default=list(NETWORKS))
    parser.add_argument("--steps", type=int, default=100, help="of the training and of the pruning")
    given = parser.parse_args()
    splits, rows = masslib.data.load("fashion_mnist"), {}
    for name in given.network:
        keras.utils.set_random_seed(0)
        model = NETWORKS[name](splits.input_shape, splits.num_classes)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        masslib.fit(model, splits.train.take(128 * given.steps), batch_size=128, verbose=0)
        with tempfile.TemporaryDirectory() as folder:
            for recipe, steps in recipes(given.steps).items():
                small = masslib.compress(model, steps, splits.train, verbose=False)
                rows[recipe, name] = measured(masslib.export.tflite(small, Path(folder, "model.tflite")))
                print(f"{name}, {recipe}: {rows[recipe, name]}", flush=True)
    table = pd.DataFrame(rows).T
    shares = table[["of gzip", "of xz"]]
    means = np.exp(np.log(shares.astype(float)).groupby(level=0, sort=False).mean())
    print(table.round(3).to_string(), means.round(3).to_string(), sep="\n\n")
    for recipe, mean in means.iterrows():
        met = mean["of gzip"] <= MOST_OF_GZIP and mean["of xz"] <= MOST_OF_XZ
        print(f"{recipe}: target of {MOST_OF_GZIP} and {MOST_OF_XZ} {'met' if met else 'MISSED'}")
    print(f"never more than xz: {'met' if (shares['of xz'] < 1).all() else 'MISSED'}")
    for name, most in MOST_SECONDS.items():
        if name in given.network:
            slowest = table.xs(name, level=1)["unpacking ms"].max()
            print(f"{name} in {1000 * most:.0f} ms: {slowest:.1f} ms {'met' if slowest <= 1000 * most else 'MISSED'}")


if __name__ == "__main__":
    main()
