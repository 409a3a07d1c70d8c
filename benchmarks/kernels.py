"""What oneDNN's kernels are worth in training, which `import masslib` turns on, beside TensorFlow's own choice.

TensorFlow takes them by itself only on processors with AVX512-VNNI, AMX or the like, where both are the same. Which
kernels run is decided once per process, so each contestant has a process of its own; they take turns of an epoch.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection

CORES, BATCH, STEPS = 1, 128, 40
VARIABLE = "TF_ENABLE_ONEDNN_OPTS"


def contestant(asked: Connection, first: str) -> None:
    """Train one epoch of the named network per question, and answer with its seconds."""
    os.environ.pop(VARIABLE, None)
    import_module(first)
    import masslib

    import keras
    from _networks import resnet8
    from _rounds import EpochTimer, pin

    pin(CORES)
    splits = masslib.data.load("fashion_mnist")
    rows, timer, models = splits.train.take(BATCH * STEPS), EpochTimer(), {}
    for name in iter(asked.recv, None):
        if name not in models:
            build = resnet8 if name == "resnet8" else getattr(masslib.models, name)
            keras.utils.set_random_seed(0)
            models[name] = build(splits.input_shape, splits.num_classes)
            models[name].compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        masslib.fit(models[name], rows, batch_size=BATCH, epochs=1, verbose=0, callbacks=[timer])
        asked.send(timer.seconds)


def main() -> int:
    from _rounds import ROUNDS, verdict

    context = get_context("spawn")
    ends = {}
    for first in ("tensorflow", "masslib"):  # what is imported first: the other one comes too late to choose
        ends[first], other = context.Pipe()
        context.Process(target=contestant, args=(other, first), daemon=True).start()
        other.close()
    for network in ("mlp", "lenet5", "small_cnn", "resnet8"):
        seconds: dict[str, list[float]] = {name: [] for name in ends}
        for turn in range(ROUNDS + 1):
            for name, end in ends.items():
                end.send(network)
                taken = end.recv()
                if turn > 0:  # the first epoch traces
                    seconds[name].append(taken)
        ratios = [a / b for a, b in zip(seconds["tensorflow"], seconds["masslib"], strict=True)]
        verdict(f"{network}: TensorFlow's own choice of kernels / oneDNN", ratios)
    for end in ends.values():
        end.send(None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
