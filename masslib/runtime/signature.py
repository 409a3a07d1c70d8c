"""What a file takes and answers: named arrays, and the structure in which a program passes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from masslib._util.structures import decoded, flat, mapped

SIGNATURES = "masslib_signatures"
"""Where a file keeps the structures, as JSON: signature -> `inputs` and `outputs`; the first signature is the default.

In TFLite files it is an archived file of this name with `.json`, in ONNX files a key of the metadata, in OpenVINO's
runtime information an entry of the section `masslib`, and in SavedModels an entry `signatures` of their manifest. A
file without it takes and answers one array, or a dict of several by name.
"""

DEFAULT = "serving_default"
"""The signature of a model that was exported alone."""


@dataclass(frozen=True)
class Tensor:
    """One input or output of a file.

    Attributes:
        shape: Its sizes, the rows first; None where any size will do.
        dtype: The type of its values; `object` for strings.
    """

    shape: tuple[int | None, ...]
    dtype: np.dtype

    def __repr__(self) -> str:
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        return f"{'string' if self.dtype.kind == 'O' else self.dtype} ({sizes})"


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of one function of a file, by name, and the structures of these names."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    takes: Any
    answers: Any


def signature(inputs: dict[str, Tensor], outputs: dict[str, Tensor], path: Path, told: Any = None) -> Signature:
    """Make a `Signature`, with the structures that the file tells, if it does.

    Raises:
        ValueError: If it tells of other inputs and outputs than it has.
    """
    told = told or {"inputs": _plain(inputs), "outputs": _plain(outputs)}
    try:
        takes, answers = decoded(told.get("inputs")), decoded(told.get("outputs"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    for names, tensors in ((takes, inputs), (answers, outputs)):
        if set(flat(names)) != set(tensors):
            raise ValueError(f"{path} is damaged: it tells of {', '.join(flat(names))}, and has {', '.join(tensors)}")
    sides = [{name: tensors[name] for name in flat(names)} for names, tensors in ((takes, inputs), (answers, outputs))]
    return Signature(*sides, takes, answers)


def _plain(names: Iterable[str]) -> Any:
    """One name stands for itself, several for a dict."""
    names = list(names)
    return names[0] if len(names) == 1 else {"dict": {name: name for name in names}}


def stored(text: str | bytes | None, path: Path) -> dict[str, dict[str, Any]]:
    """What a file tells of its signatures, nothing if it does not.

    Raises:
        ValueError: If it is no JSON of this kind.
    """
    try:
        return checked(json.loads(text) if text else {}, path)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: its signatures are no JSON ({error})") from error


def checked(told: Any, path: Path) -> dict[str, dict[str, Any]]:
    """What a file tells of its signatures, if it is of the kind that masslib writes."""
    if not isinstance(told, dict) or not all(isinstance(entry, dict) for entry in told.values()):
        raise ValueError(f"{path} tells of its signatures otherwise than masslib does")
    return told


def ordered(names: Iterable[str], told: Mapping[str, Any], path: Path) -> list[str]:
    """The signatures of a file, the default one first.

    Raises:
        ValueError: If there are none, or the file tells of one that it does not have.
    """
    names = list(names)
    missing = [name for name in told if name not in names]
    if missing or not names:
        raise ValueError(f"{path} has no signature {', '.join(map(repr, missing)) or 'at all'}; it has {names}")
    # Keras and TensorFlow Serving want this name, where it stands for the first of several.
    others = [name for name in names if name not in told and not (told and name == DEFAULT)]
    return [*told, *sorted(others, key=lambda name: name != DEFAULT)]


def arranged(x: Any, takes: Any) -> dict[str, Any]:
    """What a program passes, by the names of the inputs.

    A dict may name the inputs themselves, whatever the structure; further keys are passed over, as Keras does. The only
    input may come as an array.

    Args:
        x: Arrays in the structure `takes`; lists and tuples are alike.
        takes: A structure of names.

    Raises:
        ValueError: If `x` has another structure.

    Example:
        >>> arranged([1, {"b": 2}], ["a", {"b": "c"}]), arranged({"a": 1, "c": 2}, ["a", {"b": "c"}])
        ({'a': 1, 'c': 2}, {'a': 1, 'c': 2})
    """
    names = flat(takes)
    if len(names) == 1 and not isinstance(x, Mapping | list | tuple):
        return {names[0]: x}
    if isinstance(x, Mapping):
        if isinstance(takes, Mapping) and set(takes) <= set(x):
            return {name: value for key, part in takes.items() for name, value in arranged(x[key], part).items()}
        if set(names) <= set(x):
            return {name: x[name] for name in names}
    elif isinstance(takes, str):
        return {takes: x}
    elif isinstance(takes, list | tuple) and isinstance(x, list | tuple) and len(x) == len(takes):
        pairs = zip(x, takes, strict=True)
        return {name: value for part, inner in pairs for name, value in arranged(part, inner).items()}
    raise ValueError(f"expected {_described(takes)}, got {_kind(x)}")


def packed(values: Mapping[str, Any], answers: Any) -> Any:
    """Arrays by name, in a structure of names."""
    return values[answers] if isinstance(answers, str) else mapped(values.__getitem__, answers)


def _described(takes: Any) -> str:
    if isinstance(takes, str):
        return f"one array, or a dict with the key {takes!r}"
    if isinstance(takes, Mapping):
        return f"a dict with the keys {', '.join(map(repr, takes))}"
    names = ", ".join(map(repr, flat(takes)))
    return f"a {type(takes).__name__} of {len(takes)}, or a dict with the keys {names}"


def _kind(x: Any) -> str:
    if isinstance(x, Mapping):
        return f"a dict with the keys {', '.join(map(repr, x))}"
    if isinstance(x, list | tuple):
        return f"a {type(x).__name__} of {len(x)}"
    return f"an array of shape {x.shape}" if hasattr(x, "shape") else f"a {type(x).__name__}"
