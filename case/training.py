"""Training: what each worker does, and the next version of a network that is there already."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import masslib
from masslib import data

import keras
from keras import layers

from case import networks

BATCH = 64


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


def worker(shards: str, kind: str, width: int, epochs: int, file: str, dies: bool) -> dict[str, Any]:
    """What each worker runs: train on its part of every batch; rank 0 writes the network.

    Args:
        shards: The folder with `train` and `valid`.
        kind: "pretrained" or "residual".
        width: Of a residual network.
        epochs: Passes over the photos.
        file: Where the trained network goes, `.keras`; the checkpoints lie beside it.
        dies: Whether the second worker is killed in the middle of the training, the first time.

    Returns:
        The seconds and the accuracy on validation photos after each epoch.
    """
    strategy = masslib.strategy("multi_worker")
    train, valid = (data.read_shards(Path(shards) / name) for name in ("train", "valid"))
    steps = train.steps(BATCH)
    with strategy.scope():
        options = {"width": width} if kind == "residual" else {}
        model = getattr(networks, kind)(train.input_shape, len(train.classes), **options)
        compiled(model, steps * epochs, 2e-3 if kind == "pretrained" else 4e-3)
    rank, first = strategy.cluster_resolver.task_id, os.environ["MASSLIB_ATTEMPT"] == "0"
    start, curve = time.time(), []

    def step_ended(step: int, logs: Any) -> None:
        if dies and first and rank == 1 and int(model.optimizer.iterations) == steps * epochs // 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def epoch_ended(epoch: int, logs: dict[str, float]) -> None:
        curve.append({"epoch": epoch + 1, "time": time.time() - start, "accuracy": logs["val_accuracy"]})

    watch = keras.callbacks.LambdaCallback(on_train_batch_end=step_ended, on_epoch_end=epoch_ended)
    history = masslib.fit(
        model, train, validation_data=valid, batch_size=BATCH, epochs=epochs, augment=augmentation(), callbacks=[watch],
        checkpoint=f"{file}.checkpoint", save_every=max(1, steps // 2), verbose=0,
    )  # fmt: skip
    if rank == 0:
        model.save(file)
    return {"curve": curve, "val_accuracy": history.history["val_accuracy"], "seconds": time.time() - start}


def together(
    shards: Path, kind: str, epochs: int, file: Path, *, width: int = 16, dies: bool = False
) -> dict[str, Any]:
    """Train on two workers, a core each, which are started again from the checkpoint when one dies."""
    arguments = (str(shards), kind, width, epochs, str(file), dies)
    return masslib.launch(
        worker, arguments, workers=2, threads=1, max_restarts=1, logs=file.parent / f"{file.stem}-logs"
    )[0]


def next_version(file: Path, train: data.Subset, feedback: data.Subset, epochs: int) -> keras.Model:
    """Go on with a network on what it was made with and on what people corrected since, each half of the photos."""
    import numpy as np

    model = keras.models.load_model(file)
    old = train.sample(min(len(train), 4 * len(feedback)), seed=0)
    again = np.resize(np.arange(len(feedback)), len(old) // 2)
    x = np.concatenate([old[:][0], feedback[again][0]])
    y = np.concatenate([np.asarray(old.y), np.asarray(feedback.y)[again]])
    both = data.from_arrays(x, y, classes=train.classes)
    compiled(model, both.steps(BATCH) * epochs, 5e-4)
    masslib.fit(model, both, batch_size=BATCH, epochs=epochs, augment=augmentation(), verbose=0)
    return model
