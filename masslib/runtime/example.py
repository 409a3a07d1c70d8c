"""Inputs that a loaded file is tried on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from masslib.runtime.signature import Tensor


def batch(name: str, model: Any, batch_size: int, seed: int, example_inputs: Any) -> Any:
    """One batch for `predict`: rows of the user, or random ones.

    Args:
        name: What messages call the model.
        model: A `Predictor`, or another program's model with `input_shape`, one input and perhaps `dtype`.
        batch_size: Rows.
        seed: Of the random numbers.
        example_inputs: Rows in the structure that the model takes, or None.

    Raises:
        ValueError: If the model has open sizes and there are no rows.
    """
    tensors = getattr(model, "inputs", None)
    if not isinstance(tensors, Mapping):  # another program's model with one input
        tensors = {"": Tensor((None, *model.input_shape), np.dtype(getattr(model, "dtype", "float32")))}
    by_rows = getattr(model, "by_rows", True)
    if example_inputs is not None:
        arrays = model.by_name(example_inputs) if hasattr(model, "by_name") else {"": np.asarray(example_inputs)}
        if by_rows:
            arrays = {key: array[np.arange(batch_size) % len(array)] for key, array in arrays.items()}
    else:
        rng = np.random.default_rng(seed)
        arrays = {key: _random(name, tensor, batch_size if by_rows else None, rng) for key, tensor in tensors.items()}
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays


def _random(name: str, tensor: Tensor, rows: int | None, rng: np.random.Generator) -> np.ndarray:
    shape = tensor.shape if rows is None else (rows, *tensor.shape[1:])
    if None in shape:
        raise ValueError(
            f"{name!r} takes inputs of shape {tensor.shape[1:]}; expected one without open dimensions, or "
            "example_inputs, rows of your data"
        )
    if tensor.dtype.kind == "f":
        return rng.random(shape, "float32")
    # Every table of words has a 0 and a 1.
    numbers = rng.integers(0, 2, shape)
    return numbers.astype(str).astype(object) if tensor.dtype.kind == "O" else numbers.astype(tensor.dtype)
