"""Does an exported file answer as the model does?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from masslib import runtime

# Kind and size of the relative difference that each precision allows. Rounding of single weights shows in the
# largest difference; quantization noise is judged by its mean, since one uncertain image may well flip.
ALLOWED: dict[str, tuple[str, float]] = {
    "float32": ("largest", 1e-4),
    "float16": ("largest", 2e-2),
    "bfloat16": ("mean", 3e-2),
    "dynamic": ("mean", 3e-2),
    "int8": ("mean", 5e-2),
    "int16x8": ("mean", 3e-2),
    "int4": ("mean", 1e-1),
}
_ROWS = 64


def check(path: Path, model: Any, precision: str = "float32", inputs: np.ndarray | None = None) -> None:
    """Run the file at `path` and the model on the same rows and compare what they answer.

    Args:
        path: The exported file or folder.
        model: The Keras 3 or tf_keras model it was made from.
        precision: One of `ALLOWED`; decides how large the difference may be, relative to the largest output.
        inputs: Rows `(n, *input_shape)` to compare on, of which 64 are used; random ones in [0, 1] if absent.

    Raises:
        ValueError: If they disagree by more than the precision allows.
    """
    if inputs is None:
        shape = (_ROWS, *(size or 8 for size in model.inputs[0].shape[1:]))
        inputs = np.random.default_rng(0).random(shape, "float32")
    inputs = inputs[:_ROWS]
    (expected,) = (answer.numpy() for answer in tf.nest.flatten(model(inputs, training=False)))
    with runtime.load(path) as predictor:
        found = predictor.predict(inputs)
    kind, allowed = ALLOWED[precision]
    difference = np.abs(found - expected) / max(float(np.abs(expected).max()), 1e-30)
    size = float(difference.max() if kind == "largest" else difference.mean())
    if not size <= allowed:
        raise ValueError(
            f"the {precision} file disagrees with model {model.name!r}: {kind} relative difference {size:.3g}, "
            f"allowed {allowed:g}, on {len(inputs)} rows; nothing was written"
        )
