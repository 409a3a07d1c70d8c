"""Inputs on which a model and what was made of it are compared."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from masslib.graph.nodes import named_layers

_TRIED = 2
"""Rows on which the model is tried while the probe is looked for."""

# Images of 256 x 256 x 4, or 16 s of sound
_LARGEST = 2**18
_INTERVALS = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
_FEW = (10, 2)
"""Limits of whole numbers where no layer names one."""
_FAILURES = (ValueError, TypeError, tf.errors.OpError)


@dataclass
class _Choice:
    """What a probe is drawn by; `limits` has one number for each input, of use where these are whole numbers."""

    interval: tuple[float, float]
    limits: tuple[int, ...]
    size: int


def probe_inputs(model: Any, rows: int, seed: int = 0) -> Any:
    """Draw random inputs that a model can answer.

    Floats are in [0, 1), or in another interval where these give NaN or infinity. Whole numbers are within what the
    embeddings and encodings of the model know; floats are whole numbers, too, where the model looks at nothing else, as
    an Embedding does. Open sizes become the smallest power of two from 8 with which the model works. All this is found
    by calling the model, on the CPU, because a GPU reads zeros where a number has no row in the table.

    Args:
        model: A built model of Keras 3 or tf_keras with `inputs`.
        rows: Examples to draw, where the model has no fixed batch.
        seed: Of the random numbers.

    Returns:
        Arrays `(rows, *input_shape)` in the structure of `model.input`; those of half precision come as float32.

    Raises:
        ValueError: If the model fails on all inputs that were tried, or answers NaN or infinity.

    Example:
        >>> inputs = keras.Input((None, None, 3))
        >>> halved = keras.layers.MaxPooling2D(16)(inputs)
        >>> probe_inputs(keras.Model(inputs, keras.layers.Flatten()(halved[:, :1, :1])), 4).shape
        (4, 16, 16, 3)
    """
    whole = [_dtype(tensor).kind in "iu" for tensor in keras.tree.flatten(_inputs(model))]
    choice, answers = _working_choice(model, whole, seed)
    ids = [kind or _reads_whole_numbers(model, choice, answers, whole, i, seed) for i, kind in enumerate(whole)]
    if ids != whole:
        choice, _ = _working_choice(model, ids, seed)
    return _drawn(model, choice, ids, rows, seed)


def _working_choice(model: Any, whole: list[bool], seed: int) -> tuple[_Choice, list[np.ndarray]]:
    """The first choice for which the model answers numbers, and the answers."""
    reason: object = "it answers NaN or infinity"
    cause = None
    for choice in _choices(model, whole):
        try:
            answers = _tried(model, choice, whole, seed)
        except _FAILURES as error:
            reason, cause = (str(error).strip().splitlines() or [type(error).__name__])[0], error
            continue
        if answers is not None:
            return _widened(model, choice, answers, whole, seed)
    raise ValueError(
        f"model {model.name!r} cannot answer random inputs: {reason}; compare it on rows of your own data, or give it "
        "inputs of fixed size"
    ) from cause


def _tried(model: Any, choice: _Choice, whole: list[bool], seed: int) -> list[np.ndarray] | None:
    """The answers to a few rows, the largest whole numbers among them; None if some are NaN or infinite."""
    answers = _answers(model, _drawn(model, choice, whole, _TRIED, seed))
    return answers if all(np.isfinite(answer).all() for answer in answers) else None


def _widened(
    model: Any, choice: _Choice, answers: list[np.ndarray], whole: list[bool], seed: int
) -> tuple[_Choice, list[np.ndarray]]:
    """Give each of several inputs of whole numbers the largest limit of its own that works."""
    for index in (index for index, kind in enumerate(whole) if kind and sum(whole) > 1):
        for limit in (limit for limit in _all_limits(model) if limit > choice.limits[index]):
            wider = dataclasses.replace(choice, limits=choice.limits[:index] + (limit,) + choice.limits[index + 1 :])
            with contextlib.suppress(*_FAILURES):
                found = _tried(model, wider, whole, seed)
                if found is not None:
                    choice, answers = wider, found
                    break
    return choice, answers


def _choices(model: Any, whole: list[bool]) -> Iterator[_Choice]:
    tensors = keras.tree.flatten(_inputs(model))
    limits = _all_limits(model) if any(whole) else _FEW[:1]
    intervals = _INTERVALS if not all(whole) else _INTERVALS[:1]
    for interval, limit in itertools.product(intervals, limits):
        for size in _sizes(tensors):
            yield _Choice(interval, (limit,) * len(whole), size)


def _all_limits(model: Any) -> tuple[int, ...]:
    """The limits of whole numbers to try, the largest first."""
    bytes_alone = {256} if any(_dtype(tensor) == np.uint8 for tensor in keras.tree.flatten(_inputs(model))) else set()
    return tuple(sorted({*_limits(model), *bytes_alone, *_FEW}, reverse=True))


def _sizes(tensors: list[Any]) -> Iterator[int]:
    """Powers of two for the open sizes; 8 where there are none."""
    opened = any(None in tensor.shape[1:] for tensor in tensors)
    size = 8
    while size == 8 or (opened and all(np.prod(_shape(tensor, size)) <= _LARGEST for tensor in tensors)):
        yield size
        size *= 2
    if opened:
        yield from (4, 2, 1)


def _limits(model: Any) -> set[int]:
    """How many different whole numbers the layers know, those inside of other layers included."""
    found: set[int] = set()
    waiting, seen = list(named_layers(model).values()), set()
    while waiting:
        layer = waiting.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        for name in ("input_dim", "num_tokens"):
            limit = getattr(layer, name, None)
            if isinstance(limit, int) and limit > 0:
                found.add(limit)
        parts = keras.tree.flatten(list(vars(layer).values()))
        waiting += [part for part in parts if isinstance(part, keras.layers.Layer)]
        waiting += [part for part in getattr(layer, "submodules", ()) if hasattr(part, "get_config")]  # of tf_keras
    return found


def _reads_whole_numbers(
    model: Any, choice: _Choice, answers: list[np.ndarray], whole: list[bool], index: int, seed: int
) -> bool:
    """Tell whether the answers stay the same when the fractions of an input of floats are cut off."""
    inputs = _drawn(model, choice, whole, _TRIED, seed)
    arrays = keras.tree.flatten(inputs)
    if arrays[index].dtype.kind != "f":
        return False
    arrays[index] = np.trunc(arrays[index])
    return all(map(np.array_equal, answers, _answers(model, keras.tree.pack_sequence_as(inputs, arrays))))


def _drawn(model: Any, choice: _Choice, whole: list[bool], rows: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    kinds, limits = iter(whole), iter(choice.limits)

    def draw(tensor: Any) -> np.ndarray:
        dtype, shape = _dtype(tensor), (tensor.shape[0] or rows, *_shape(tensor, choice.size))
        limit = next(limits)
        if next(kinds):
            most = np.iinfo(dtype).max if dtype.kind in "iu" else 2**24
            values = rng.integers(0, min(limit, most + 1), shape)
            values.flat[:1] = min(limit, most + 1) - 1  # so that few rows tell what many would
            return values.astype(dtype)
        if dtype.kind == "b":
            return rng.random(shape) > 0.5
        if dtype.kind != "f":
            raise ValueError(f"model {model.name!r} takes {tensor.dtype}; expected numbers")
        low, high = choice.interval
        values = rng.random(shape, "float32") * np.float32(high - low) + np.float32(low)
        return values.astype(dtype)

    return keras.tree.map_structure(draw, _inputs(model))


def _inputs(model: Any) -> Any:
    """The structure of the inputs; a Sequential model of Keras 3 has only a list."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def _answers(model: Any, inputs: Any) -> list[np.ndarray]:
    with tf.device("CPU:0"):
        return [np.asarray(answer) for answer in keras.tree.flatten(model(inputs, training=False))]


def _shape(tensor: Any, size: int) -> tuple[int, ...]:
    return tuple(known or size for known in tensor.shape[1:])


def _dtype(tensor: Any) -> np.dtype:
    """NumPy's type for an input, float32 instead of the halves, which NumPy does not have all."""
    name = keras.backend.standardize_dtype(tensor.dtype)
    return np.dtype("float32" if name in ("float16", "bfloat16") else name if name != "string" else object)
