"""What a training of several processes asks of each: to leave files to the chief, and to end together."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from types import FrameType

import keras
import tensorflow as tf

from masslib.train.replicas import Replicas

TERMINATED = 128 + signal.SIGTERM
"""Exit code of a process that ended because of SIGTERM, as in a shell."""


class WorkerGoneError(RuntimeError):
    """Another worker has ended or cannot be reached any more, so this one cannot go on."""


def on_this_worker(callbacks: Sequence[keras.callbacks.Callback], replicas: Replicas) -> list[keras.callbacks.Callback]:
    """Leave out the callbacks of Keras that write files, unless this is the chief.

    Raises:
        ValueError: If BackupAndRestore is among them: it moves the epochs of Keras' own loop, and of the chief alone.
    """
    known = keras.callbacks
    if any(isinstance(callback, known.BackupAndRestore) for callback in callbacks):
        raise ValueError("BackupAndRestore works with Keras' own loop only; pass checkpoint=folder, which resumes, too")
    if replicas.workers == 1:
        return list(callbacks)
    writing = (known.ModelCheckpoint, known.TensorBoard, known.CSVLogger)
    return [callback for callback in callbacks if replicas.is_chief or not isinstance(callback, writing)]


class Termination:
    """Notes SIGTERM during a training of several workers; a second one ends the process at once.

    Nothing else would end the others, and make one common checkpoint of all; one that is left alone may get company
    again. The handler that was there before is back afterwards and is called then, unless it ignores the signal: in
    that case the training does so, too.

    Attributes:
        asked: Whether the signal has come.
    """

    def __init__(self, replicas: Replicas):
        self.asked = False
        self._before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._active = replicas.clustered and in_main_thread and self._before != signal.SIG_IGN

    def __enter__(self) -> Termination:
        if self._active:
            signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if not self._active:
            return
        signal.signal(signal.SIGTERM, self._before)
        if self.asked and callable(self._before):
            self._before(signal.SIGTERM, None)
        elif self.asked and kind is None:  # it came after the last step
            raise SystemExit(TERMINATED)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def gone_workers_named(replicas: Replicas) -> Iterator[None]:
    """Turn TensorFlow's pages about a broken connection into one sentence.

    Raises:
        WorkerGoneError: If another worker has gone.
    """
    errors = tf.errors
    lost = (errors.UnavailableError, errors.AbortedError, errors.CancelledError, errors.DeadlineExceededError)
    try:
        yield
    except (*lost, errors.InternalError, errors.UnknownError) as error:
        found = re.findall(r"/job:worker/(?:replica:\d+/)?task:(\d+)|ConnectionError: worker (\d+) has", error.message)
        tasks = sorted({task for pair in found for task in pair if task} - {str(replicas.rank)})
        if replicas.workers == 1 or not (tasks or isinstance(error, lost)):
            raise
        names = f"worker {' or '.join(tasks)}" if tasks else "another worker"
        raise WorkerGoneError(
            f"{names} has gone, or cannot be reached any more, so worker {replicas.rank} cannot go on; look into its "
            "log for why, and start all again: with checkpoint=folder they resume"
        ) from error
