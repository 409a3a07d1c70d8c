"""Training: what each worker does, and the next version of a network that is there already."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import masslib
from masslib import data

import keras
import numpy as np
from keras import layers

from case import networks

BATCH = 64
RATES = {"pretrained": 2e-3, "residual": 4e-3}


def augmentation() -> keras.Sequential:
    """Mirrored, moved, scaled, and in other light: what a photographer might have done."""
    return keras.Sequential([
        layers.RandomFlip("horizontal"),
        layers.RandomTranslation(0.1, 0.1, fill_mode="reflect"),
        layers.RandomZoom(0.15, fill_mode="reflect"),
        layers.RandomContrast(0.2),
        layers.RandomBrightness(0.15, value_range=(0, 1)),
    ])  # fmt: skip


def compiled(model: keras.Model, steps: int, rate: float) -> keras.Model:
    """AdamW, whose rate climbs for a fifth of the steps and falls along a cosine."""
    warm = max(1, steps // 5)
    schedule = keras.optimizers.schedules.CosineDecay(
        rate / 100, max(1, steps - warm), warmup_target=rate, warmup_steps=warm
    )
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=0.02), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


class Dies(keras.callbacks.Callback):
    """Kills its own process after so many batches, as if the machine had failed."""

    def __init__(self, after: int):
        super().__init__()
        self._left = after

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def worker(shards: str, kind: str, options: dict[str, Any], epochs: int, file: str, dies: bool) -> list[float]:
    """What each worker runs: train on its part of every batch; rank 0 writes the network.

    Args:
        shards: The folder with `train` and `valid`.
        kind: Of network, "pretrained" or "residual".
        options: Of the network.
        epochs: Passes over the photos.
        file: Where the trained network goes, `.keras`; the checkpoints lie beside it.
        dies: Whether the second worker is killed in the middle of the training, the first time.

    Returns:
        The accuracy on validation photos after each epoch.
    """
    strategy = masslib.strategy("multi_worker")
    train, valid = (data.read_shards(Path(shards) / name) for name in ("train", "valid"))
    steps = train.steps(BATCH)
    with strategy.scope():
        model = getattr(networks, kind)(train.input_shape, len(train.classes), **options)
        compiled(model, steps * epochs, RATES[kind])
    rank, first = strategy.cluster_resolver.task_id, os.environ["MASSLIB_ATTEMPT"] == "0"
    history = masslib.fit(
        model, train, validation_data=valid, batch_size=BATCH, epochs=epochs, augment=augmentation(), verbose=0,
        callbacks=[Dies(after=steps * epochs // 2)] if dies and first and rank == 1 else None,
        checkpoint=f"{file}.checkpoint", save_every=max(1, steps // 2),
    )  # fmt: skip
    if rank == 0:
        model.save(file)
    return history.history["val_accuracy"]


def together(
    shards: Path, kind: str, epochs: int, file: Path, *, dies: bool = False, **options: Any
) -> tuple[keras.Model, list[float]]:
    """Train on two workers, a core each, which are started again from the checkpoint when one dies.

    Returns:
        The network that `file` holds now, and what `worker` returns.
    """
    logs = file.with_name(f"{file.stem}-logs")
    with contextlib.redirect_stdout(sys.stderr):  # what the first worker prints
        told = masslib.launch(
            worker,
            (str(shards), kind, options, epochs, str(file), dies),
            workers=2,
            threads=1,
            max_restarts=1,
            logs=logs,
        )
    return keras.models.load_model(file), told[0]


def next_version(file: Path, train: data.Subset, feedback: data.Subset, epochs: int) -> keras.Model:
    """Go on with a network: four fifths of the photos are old ones, the rest those that people have corrected since."""
    # Gently: at a rate of 2e-4, and with half as many old photos before, it forgot half a point or one by day, and was
    # refused. At this one 0.2 points of validation photos are lost by day and 1.4 won at night, see docs/case.md.
    model = keras.models.load_model(file)
    old = train.sample(min(len(train), 16 * len(feedback)), seed=0)
    again = np.resize(np.arange(len(feedback)), len(old) // 4)
    x = np.concatenate([old[:][0], feedback[again][0]])
    y = np.concatenate([np.asarray(old.y), np.asarray(feedback.y)[again]])
    both = data.from_arrays(x, y, classes=train.classes)
    compiled(model, both.steps(BATCH) * epochs, 5e-5)
    masslib.fit(model, both, batch_size=BATCH, epochs=epochs, augment=augmentation(), verbose=0)
    return model
