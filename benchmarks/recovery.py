"""What checkpoints cost: `masslib.fit` saving every 100 steps beside the same training without.

small_cnn (38.7 MB of weights and Adam's moments) at batch 64. Both trainings live in one process and take turns of an
epoch, of as many hundred steps as take 16 s here. All checkpoints of an epoch but the last are written within it, and
so is the last one of the epoch before. One of them is flushed to the disk, which `Checkpoints` does once in 30 s: twice
as often here as in a training that has the machine for itself.
"""

from __future__ import annotations

import math
import sys
import tempfile
import threading
import time

import masslib

import keras
from _rounds import EpochTimer, TakingTurns, pin, verdict

BATCH, EVERY, SECONDS, ROUNDS = 64, 100, 16, 13
SPLITS = masslib.data.load("fashion_mnist")


class Peer(keras.callbacks.Callback):
    """A training without checkpoints, in a thread of its own, that makes an epoch when it is asked for one."""

    def __init__(self, steps: int):
        super().__init__()
        self._asked, self._done = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=train, args=(steps, self), daemon=True).start()

    def epoch(self) -> float:
        """Return the seconds of the next epoch."""
        self._asked.release()
        if not self._done.acquire(timeout=600):
            raise RuntimeError("the training without checkpoints has not ended its epoch for 600 s")
        return self._seconds

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._asked.acquire()
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._seconds = time.perf_counter() - self._start
        self._done.release()


def train(steps: int, callback: keras.callbacks.Callback, epochs: int = ROUNDS + 1, **options: object) -> None:
    model = masslib.models.small_cnn(SPLITS.input_shape, SPLITS.num_classes)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], steps_per_execution=50)
    rows = SPLITS.train.take(BATCH * steps)
    masslib.fit(model, rows, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=[callback], **options)


def main() -> int:
    pin(2)
    timer = EpochTimer()
    train(EVERY, timer, epochs=2)  # the first epoch traces
    most = len(SPLITS.train) // BATCH // EVERY
    steps = EVERY * min(math.ceil(SECONDS / timer.seconds), most)
    turns = TakingTurns({"not saving": Peer(steps).epoch})
    with tempfile.TemporaryDirectory() as folder:
        train(steps, turns, checkpoint=folder, save_every=EVERY)
    ratios = turns.ratios("not saving")
    print(f"{len(ratios)} rounds of {steps} steps: {', '.join(f'{ratio:.3f}' for ratio in ratios)}")
    return 0 if verdict(f"saving every {EVERY} steps / not saving", ratios, at_most=1.03) else 1


if __name__ == "__main__":
    sys.exit(main())
