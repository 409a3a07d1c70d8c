"""What the runtimes tell about inputs and outputs, in the words of `Predictor`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def only(items: Any, what: str, path: Path) -> Any:
    if len(items) != 1:
        raise ValueError(f"{path} has {len(items)} {what}; predict works on models with one")
    return items[0]


def without_batch(shape: np.ndarray) -> tuple[int | None, ...]:
    return tuple(None if size < 0 else int(size) for size in shape[1:])
