"""What `compress` returns, and how it is kept."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from masslib.compression.step import Step


@dataclass(frozen=True)
class Compressed:
    """What `compress` returns.

    Attributes:
        model: The compressed model, in Keras 3. After `Quantize` it still is the float model: the precision is
            applied when it is exported. After `QuantizeAware` it is the tf_keras model that carries the ranges.
        steps: The recipe that made it.
        skipped: Layers that a step left alone, with the reason.
        precision: Precision of the TFLite file that `masslib.export.tflite` will write.
        calibration: Rows `(n, *input_shape)` that calibrate it, if it needs any.
    """

    model: Any
    steps: tuple[Step, ...]
    skipped: dict[str, str] = field(default_factory=dict)
    precision: str = "float32"
    calibration: np.ndarray | None = field(default=None, repr=False)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything into a folder, whole or not at all; one that exists is replaced.

        Args:
            path: The folder to make.

        Example:
            >>> import masslib, tempfile
            >>> small = masslib.compress(masslib.models.mlp((4,), 3), masslib.Quantize("dynamic"))
            >>> folder = tempfile.mkdtemp() + "/small"
            >>> small.save(folder)
            >>> masslib.Compressed.load(folder).precision
            'dynamic'
        """
        from masslib.compression import storage

        storage.write(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Compressed:
        """Read back what `save` wrote.

        Args:
            path: The folder.

        Returns:
            An equal `Compressed`: its exported file has the same answers.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: If a file in it is missing or was changed since.
        """
        from masslib.compression import storage

        return cls(**storage.read(path))
