"""The int8 ranges of activations, learned within dozens of batches instead of thousands."""

from __future__ import annotations

import numpy as np
import tf_keras

from masslib.compression.tfmot.schemes import by_role

# Of TFMOT's MovingAverageQuantizer, which has no setting for it.
_TFMOT_DECAY = 0.999
_DECAY = 0.95
_MOVING = ("pre_activation_", "post_activation_", "output_")


def ranges_from_the_first_batch(aware: tf_keras.Model) -> tf_keras.callbacks.Callback:
    """Return a callback for the training of a quantization-aware model that sets the ranges from the first batch.

    TFMOT starts every range at [-6, 6] and moves it by a thousandth per batch towards what it sees. After a
    fine-tuning of 100 batches a range of [0, 1] would still be [-5.4, 5.5], and waste three of the 8 bits. The
    callback learns from each of TFMOT's small moves what the batch was like, and moves the range all the way: to
    the mean of the first batches, and later by a twentieth per batch.
    """
    ranges = [
        (role, variable)
        for layer in aware.layers
        for role, variable in by_role(layer).items()
        if role.startswith(_MOVING)
    ]

    class Ranges(tf_keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self._seen = 0

        def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
            self._before = [variable.numpy() for _, variable in ranges]

        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            self._seen += 1
            share = max(1 / self._seen, 1 - _DECAY)
            for (role, variable), before in zip(ranges, self._before, strict=True):
                seen = before + (variable.numpy() - before) / (1 - _TFMOT_DECAY)
                after = before + share * (seen - before)
                # int8 needs a range that holds 0, which rounding must not take away.
                variable.assign(np.minimum(after, 0) if "_min" in role else np.maximum(after, 0))

    return Ranges()
