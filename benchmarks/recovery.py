"""What checkpoints cost: `masslib.fit` saving every 100 steps beside the same training without.

small_cnn (38.7 MB of weights and Adam's moments) at batch 64. The two trainings take turns in one run. Timed are 400
steps with four checkpoints, each of which is written and flushed to the disk within that time.
"""

from __future__ import annotations

import sys
import tempfile
import time

import keras
from _rounds import ROUNDS, pin, verdict

import masslib

BATCH, EVERY, TIMED = 64, 100, 400
SPLITS = masslib.data.load("fashion_mnist")


class Window(keras.callbacks.Callback):
    """Seconds from the end of the first 50 steps to the end of the training."""

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if batch + 1 == 50:
            self.start = time.perf_counter()
        if batch + 1 == 50 + TIMED:
            self.seconds = time.perf_counter() - self.start


def seconds(folder: str | None) -> float:
    keras.backend.clear_session()
    model = masslib.models.small_cnn(SPLITS.input_shape, SPLITS.num_classes)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], steps_per_execution=50)
    window = Window()
    options = {} if folder is None else {"checkpoint": folder, "save_every": EVERY}
    rows = SPLITS.train.take(BATCH * (50 + TIMED))
    masslib.fit(model, rows, batch_size=BATCH, verbose=0, callbacks=[window], **options)
    return window.seconds


def main() -> int:
    pin(2)
    ratios = []
    for number in range(ROUNDS + 1):
        with tempfile.TemporaryDirectory() as folder:
            pair = {}
            for place in (folder, None) if number % 2 else (None, folder):
                pair[place is not None] = seconds(place)
        if number:
            ratios.append(pair[True] / pair[False])
    return 0 if verdict(f"saving every {EVERY} steps / not saving", ratios, at_most=1.03) else 1


if __name__ == "__main__":
    sys.exit(main())
