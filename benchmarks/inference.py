"""Time of one call: `masslib.fastest` beside every other runtime, and beside always taking int8 in LiteRT.

The same network runs in LiteRT, ONNX Runtime, OpenVINO and PyTorch, in float and int8, with one and two threads and
batches of 1 and 32, all in turns of a few calls in one run. LeNet-5, small_cnn and a ResNet-8 are trained on
Fashion-MNIST; MobileNetV2 has random weights, so only its speed counts. All files are asked through `masslib`, PyTorch
directly; NumPy goes in and comes out. PyTorch is the faster of eager (channels last) and a frozen trace, and its
int8 form where its quantization can make one.

`make .venv/.installed-bench` installs all four. The first three networks take five minutes on two cores, MobileNetV2
more than seven.

    python benchmarks/inference.py [lenet5 small_cnn resnet8 mobilenetv2]
"""

from __future__ import annotations

import os
import statistics
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

# The threads of the runtime whose turn it is not must sleep, not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import masslib
from masslib.data import Splits, from_arrays

import keras
import numpy as np
import torch
from _networks import resnet8
from _rounds import verdict
from _torch_twin import twin
from keras import layers

FASHION = masslib.data.load("fashion_mnist")
ALWAYS = "LiteRT int8"


class Torch:
    """What `measure.latencies` asks for, around a PyTorch module."""

    def __init__(self, run: Callable, shape: tuple[int, ...], layout: torch.memory_format):
        self.input_shape, self.threads, self._run, self._layout = shape, None, run, layout

    def predict(self, x: np.ndarray, batch_size: int = 256) -> np.ndarray:
        with torch.inference_mode():
            images = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=self._layout)
            return self._run(images).numpy()


def trained(model: keras.Model) -> tuple[keras.Model, Splits, float]:
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    masslib.fit(model, FASHION.train, batch_size=128, epochs=1, verbose=0)
    return model, FASHION, 0.002


def mobilenet() -> tuple[keras.Model, Splits, float]:
    keras.utils.set_random_seed(0)
    # Logits, because int8 rounds a thousand probabilities of a network that knows nothing to zero.
    model = keras.applications.MobileNetV2((224, 224, 3), weights=None, classifier_activation=None)
    x = np.random.default_rng(0).random((32, 224, 224, 3), "float32")
    # Statistics as training would leave them: without, the signal fades from layer to layer, and int8 sees only noise.
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
    model(x, training=True)
    part = from_arrays(x, np.arange(32) % 1000, scale=1.0)
    return model, Splits(part, part, part, None), 1.0


def by_torch(model: keras.Model, rows: np.ndarray) -> dict[str, Torch]:
    """PyTorch's ways by name, each checked against Keras."""
    shape, network = tuple(model.inputs[0].shape[1:]), twin(model)
    example = torch.from_numpy(rows[:1]).permute(0, 3, 1, 2)
    last = torch.channels_last
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # tracing is on its way out, and still the fastest
        frozen = torch.jit.optimize_for_inference(torch.jit.trace(network, example))
        ways = {
            "PyTorch float32": Torch(network.to(memory_format=last), shape, last),
            "PyTorch float32, traced": Torch(frozen, shape, torch.contiguous_format),
            "PyTorch int8": Torch(quantized(network, rows), shape, torch.contiguous_format),
        }
    expected = np.asarray(model(rows[:4]))
    for name, way in ways.items():
        difference = np.abs(way.predict(rows[:4]) - expected).mean() / expected.max()
        if not difference < (0.1 if "int8" in name else 1e-4):
            raise RuntimeError(f"{name} answers otherwise than Keras: {difference}")
    return ways


def quantized(network: torch.nn.Module, rows: np.ndarray) -> torch.nn.Module:
    """Static quantization for x86 in PyTorch's own FX mode, calibrated with the rows."""
    from torch.ao.quantization import get_default_qconfig_mapping, quantize_fx

    images = torch.from_numpy(rows).permute(0, 3, 1, 2).contiguous()
    prepared = quantize_fx.prepare_fx(network, get_default_qconfig_mapping("x86"), (images[:1],))
    prepared(images)
    return quantize_fx.convert_fx(prepared)


def table(model: keras.Model, splits: Splits, max_drop: float) -> tuple[str, dict[str, float]]:
    """The choice of `fastest`, and the median milliseconds of all at batch 1 on one thread."""
    choice = masslib.fastest(model, splits, max_drop=max_drop, verbose=False)
    for name, why in choice.skipped.items():
        print(f"  not made: {name}: {why}")
    torches = by_torch(model, splits.train[:32][0])
    print(f"\n{model.name}: fastest takes {choice.name}; median ms of a call with 1 or 32 rows on 1 or 2 threads")
    print(f"  {'':<28}{'1 row, 1':<14}{'32 rows, 1':<14}{'1 row, 2':<14}{'32 rows, 2':<14}")
    columns = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for batch in (1, 32):
            rivals = {**choice.files, **torches}
            timed = masslib.measure.latencies(rivals, batch_size=batch, threads=threads, runs=400, max_seconds=0.5)
            columns[threads, batch] = {name: value.median_ms for name, value in timed.items()}
    for name in columns[1, 1]:
        figures = "".join(f"{column[name]:<14.3f}" for column in columns.values())
        print(f"  {name:<28}{figures}{choice.table['verdict'].get(name, '')}")
    return choice.name, columns[1, 1]


def main() -> int:
    warnings.filterwarnings("ignore", message="AUC is undefined")  # of 32 rows for MobileNetV2's 1000 classes
    torch.set_num_threads(1)
    kept = Path("build/fashion_cnn.keras")
    networks = {
        "lenet5": lambda: trained(masslib.models.lenet5(FASHION.input_shape, 10)),
        "small_cnn": lambda: (
            (keras.models.load_model(kept), FASHION, 0.002)
            if kept.exists()
            else trained(masslib.models.small_cnn(FASHION.input_shape, 10))
        ),
        "resnet8": lambda: trained(resnet8(FASHION.input_shape, 10)),
        "mobilenetv2": mobilenet,
    }
    wanted = sys.argv[1:] or list(networks)
    if unknown := set(wanted) - networks.keys():
        raise SystemExit(f"{', '.join(unknown)}: expected some of {', '.join(networks)}")
    gains, met = [], True
    for name in wanted:
        build = networks[name]
        choice, medians = table(*build())
        gains.append(medians[ALWAYS] / medians[choice])
        best = min(medians, key=medians.get)
        met &= verdict(f"{name}: {choice} / {best}, the best of all", [medians[choice] / medians[best]], at_most=1.05)
        verdict(f"{name}: always {ALWAYS} / {choice}", [gains[-1]])
    mean = statistics.geometric_mean(gains)
    met &= verdict(f"geometric mean: always {ALWAYS} / fastest", [mean], at_least=2.0)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
