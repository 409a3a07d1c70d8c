"""The int8 ranges of activations, learned within dozens of batches instead of thousands."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tf_keras

from masslib.compression.tfmot.schemes import by_role

# Of TFMOT's MovingAverageQuantizer, which has no setting for it.
_TFMOT_DECAY = 0.999
_DECAY = 0.95
# What float32 leaves of TFMOT's move, as a share of the range
_UNSEEN = 1e-4
_NARROWEST = 1e-3
_MOVING = ("pre_activation_", "post_activation_", "output_")


def ranges_from_the_first_batch(aware: tf_keras.Model) -> tf_keras.callbacks.Callback:
    """Return a callback for the training of a quantization-aware model that sets the ranges from the first batch.

    TFMOT starts every range at [-6, 6] and moves it by a thousandth per batch towards what it sees. After a
    fine-tuning of 100 batches a range of [0, 1] would still be [-5.4, 5.5], and waste three of the 8 bits. The
    callback learns from each of TFMOT's small moves what the batch was like, and moves the range all the way: to
    the mean of the first batches, and later by a twentieth per batch.

    The first batch is quantized by ranges that are far too wide, behind which small activations are zero. A range that
    sees nothing is halved until it sees something; a range of no width makes files that no interpreter can run.
    """
    ranges = [
        (variable, by_role(layer)[role.replace("_min", "_max")])
        for layer in aware.layers
        for role, variable in by_role(layer).items()
        if role.startswith(_MOVING) and role.endswith("_min:0")
    ]

    class Ranges(tf_keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self._seen = [0] * len(ranges)

        def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
            self._before = [_values(pair) for pair in ranges]

        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            for number, (pair, before) in enumerate(zip(ranges, self._before, strict=True)):
                seen = before + (_values(pair) - before) / (1 - _TFMOT_DECAY)
                if np.ptp(seen) < _UNSEEN * np.ptp(before):
                    after = np.maximum(np.abs(before) / 2, _NARROWEST) * np.sign(before)
                else:
                    self._seen[number] += 1
                    after = before + max(1 / self._seen[number], 1 - _DECAY) * (seen - before)
                # int8 needs a range that holds 0, which rounding must not take away.
                pair[0].assign(np.minimum(after[0], 0))
                pair[1].assign(np.maximum(after[1], 0))

    return Ranges()


def _values(pair: tuple[tf.Variable, tf.Variable]) -> np.ndarray:
    return np.array([variable.numpy() for variable in pair])
