"""Images per second of training `small_cnn`: `masslib.fit` beside PyTorch on the same cores, in turns of an epoch.

The same layers, Adam with the same settings, batch 128, float32. PyTorch runs its usual loop, in both memory layouts
(`channels_last` often is the faster one) and with its fused Adam; its batches are gathered from a tensor that lies in
memory as floats, which costs it less than reading images would. The ratio is that to the faster layout.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

# The threads of the framework whose turn it is not must sleep, not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import statistics

import masslib

import torch
from _rounds import ROUNDS, TakingTurns, pin, verdict
from torch import nn

BATCH, STEPS, CORES = 128, 30, 2
SPLITS = masslib.data.load("fashion_mnist")


def by_torch(layout: torch.memory_format) -> Callable[[], float]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16, eps=1e-3, momentum=0.01),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32, eps=1e-3, momentum=0.01),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(14 * 14 * 32, 512),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(512, 10),
    ).to(memory_format=layout)
    weights = sum(parameter.numel() for parameter in model.parameters())
    ours = masslib.models.small_cnn(SPLITS.input_shape, SPLITS.num_classes)
    if weights != sum(weight.numpy().size for weight in ours.trainable_weights):
        raise RuntimeError("the two networks have different numbers of weights")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7, fused=True)
    x, y = SPLITS.train[: BATCH * STEPS]
    x = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).contiguous(memory_format=layout)
    y = torch.from_numpy(y).long()
    cross_entropy = nn.CrossEntropyLoss()

    def epoch() -> float:
        start = time.perf_counter()
        model.train()
        order = torch.randperm(len(x))
        total, right = torch.zeros(()), torch.zeros((), dtype=torch.long)
        for rows in order.split(BATCH):
            optimizer.zero_grad(set_to_none=True)
            answers, labels = model(x[rows]), y[rows]
            loss = cross_entropy(answers, labels)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(rows)
            right += (answers.argmax(1) == labels).sum()
        float(total), int(right)
        return time.perf_counter() - start

    return epoch


def main() -> int:
    pin(CORES)
    torch.set_num_threads(CORES)
    peers = {"contiguous": by_torch(torch.contiguous_format), "channels_last": by_torch(torch.channels_last)}
    turns = TakingTurns(peers)
    model = masslib.models.small_cnn(SPLITS.input_shape, SPLITS.num_classes)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    subset = SPLITS.train.take(BATCH * STEPS)
    masslib.fit(model, subset, batch_size=BATCH, epochs=ROUNDS + 1, verbose=0, callbacks=[turns])
    rates = {"masslib.fit": turns.seconds} | {f"PyTorch, {name}": times for name, times in turns.peer_seconds.items()}
    for name, times in rates.items():
        print(f"{name:<30} {BATCH * STEPS / statistics.median(times):8.0f} images/s")
    best = min(peers, key=lambda name: statistics.median(turns.peer_seconds[name]))
    ratios = [1 / ratio for ratio in turns.ratios(best)]
    return 0 if verdict(f"masslib.fit / PyTorch ({best})", ratios, at_least=1.1) else 1


if __name__ == "__main__":
    sys.exit(main())
