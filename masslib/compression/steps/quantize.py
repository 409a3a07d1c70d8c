"""Post-training quantization: fewer bits per weight, and perhaps per activation."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from masslib.compression.step import Step
from masslib.export.preflight import check_calibration

_PRECISIONS = ("dynamic", "float16", "int8", "int16x8", "int4")


@dataclass(frozen=True, repr=False)
class Quantize(Step):
    """Store the exported model with fewer bits; nothing is trained.

    The quantization happens in `masslib.export.tflite` (TensorFlow's converter; see its guide "Post-training
    quantization"); `compress` only notes the precision and keeps the rows that calibrate it.

    Args:
        precision: `"dynamic"`: int8 weights, float activations, needs no data and often is the fastest on a CPU.
            `"float16"`: half-size weights, nearly exact. `"int8"`: weights and activations, for integer
            hardware. `"int16x8"`: int8 weights with int16 activations, more accurate than int8 and slower.
            `"int4"`: like dynamic, with half its bits per weight; needs the extra `int4`.
        calibration_rows: How many rows of the data set the ranges of the activations are measured on
            (int8 and int16x8), drawn evenly from the classes.

    Raises:
        ValueError: If the precision is unknown or there is no row to calibrate with.

    Example:
        >>> Quantize("int8")
        Quantize('int8')
    """

    order = 5

    precision: str
    calibration_rows: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision not in _PRECISIONS:
            raise ValueError(f"Quantize({self.precision!r}): expected one of {', '.join(map(repr, _PRECISIONS))}")
        rows = self.calibration_rows
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
            raise ValueError(f"Quantize(calibration_rows={rows!r}): expected a positive integer")

    @property
    def calibrates(self) -> bool:
        """Whether this precision needs rows of data."""
        return self.precision in ("int8", "int16x8")

    def check(self, model: keras.Model) -> None:
        """Refuse what TensorFlow cannot calibrate: the loop of a recurrent layer crashes the process.

        Raises:
            ValueError: If the precision needs calibration and a layer loops over its steps.
        """
        if self.calibrates:
            check_calibration(model, repr(self))
