"""Does an exported file answer as the model does?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from masslib import runtime
from masslib.graph.probes import probe_inputs

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

    Rows on which the model itself answers NaN or infinity are left out, because they tell nothing about the file.

    Args:
        path: The exported file or folder.
        model: The Keras 3 or tf_keras model it was made from.
        precision: One of `ALLOWED`; decides how large the difference may be, relative to the largest output.
        inputs: Rows `(n, *input_shape)` to compare on, of which 64 are used; those of `probe_inputs` if absent.

    Raises:
        ValueError: If they disagree by more than the precision allows, or there is no row to compare them on.
    """
    if inputs is None:
        (inputs,) = keras.tree.flatten(probe_inputs(model, _ROWS))
    inputs = inputs[:_ROWS]
    (expected,) = (np.asarray(answer) for answer in keras.tree.flatten(model(inputs, training=False)))
    expected = expected.astype("float64")
    known = np.isfinite(expected.reshape(len(expected), -1)).all(axis=1)
    if not known.any():
        raise ValueError(
            f"model {model.name!r} answers NaN or infinity on all {len(inputs)} rows, so that the file cannot be "
            "compared with it; look for NaN in its weights, or pass other example_inputs"
        )
    with runtime.load(path) as predictor:
        found = predictor.predict(inputs)
    if found.shape != expected.shape:
        raise ValueError(f"the {precision} file answers {found.shape}, and model {model.name!r} {expected.shape}")
    kind, allowed = ALLOWED[precision]
    expected = expected[known]
    difference = np.abs(found[known] - expected) / max(float(np.abs(expected).max()), 1e-30)
    size = float(difference.max() if kind == "largest" else difference.mean())
    if not size <= allowed:
        raise ValueError(
            f"the {precision} file disagrees with model {model.name!r}: {kind} relative difference {size:.3g}, "
            f"allowed {allowed:g}, on {len(expected)} rows; nothing was written"
        )
