"""Several models as one: how their answers are combined, and the file that names the members of a package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from masslib._util import manifest
from masslib._util.messages import first_line

SUFFIX = ".ensemble"
HOW = ("mean", "vote", "stack")
LEAST = 1e-6
"""Smaller probabilities are as good as zero, of which there is no logarithm."""

_FORMAT = "masslib ensemble 1"
# Quantized probabilities of a row do not sum to 1 exactly.
_ROUNDING = 0.1


@dataclass(frozen=True)
class Rule:
    """How the answers of several models become one.

    Attributes:
        how: `"mean"`, `"vote"` or `"stack"`.
        weights: `(members,)`, of the mean and the vote; they sum to 1.
        kernel: `(members * k, k)`, what a stack multiplies the logarithms of all probabilities by.
        bias: `(k,)`, what it adds.
    """

    how: str
    weights: np.ndarray
    kernel: np.ndarray | None = None
    bias: np.ndarray | None = None

    def combined(self, answers: Mapping[str, np.ndarray]) -> np.ndarray:
        """One answer `(n, k)` from those of the members.

        Raises:
            ValueError: If they do not fit each other; a member is named.

        Example:
            >>> answers = {"one": np.array([[0.9, 0.1]]), "other": np.array([[0.5, 0.5]])}
            >>> Rule("mean", np.array([0.5, 0.5])).combined(answers)
            array([[0.7, 0.3]], dtype=float32)
        """
        parts = matched(answers)
        if self.how == "stack":
            return _softmax(stacked(parts) @ self.kernel + self.bias).astype(np.float32)
        if self.how == "vote":
            parts = [voted(part) for part in parts]
        return sum(weight * part for weight, part in zip(self.weights, parts, strict=True)).astype(np.float32)

    def told(self) -> dict[str, Any]:
        """As JSON can hold it."""
        arrays = {"weights": self.weights, "kernel": self.kernel, "bias": self.bias}
        return {"how": self.how, **{name: None if it is None else it.tolist() for name, it in arrays.items()}}


def matched(answers: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The answers as float64 arrays of one shape; beside one column for class 1, of two columns the second is taken.

    Raises:
        ValueError: If shapes differ, or some are probabilities and others are not.
    """
    parts = {name: np.asarray(answer, np.float64) for name, answer in answers.items()}
    if any(part.shape[1:] == (1,) for part in parts.values()):
        parts = {name: part[:, 1:] if part.shape[1:] == (2,) else part for name, part in parts.items()}
    (first, expected), *others = parts.items()
    for name, part in others:
        if part.shape != expected.shape:
            raise ValueError(f"member {name!r} answers {part.shape}, and {first!r} {expected.shape}; expected the same")
    if expected.ndim == 2 and expected.shape[1] > 1 and len(expected):
        sums = {name: bool((np.abs(part.sum(axis=1) - 1) < _ROUNDING).all()) for name, part in parts.items()}
        others = [name for name, fits in sums.items() if not fits]
        if others and len(others) < len(sums):
            raise ValueError(
                f"the members {', '.join(map(repr, others))} do not answer probabilities of classes, as the others do; "
                "end them in a softmax"
            )
    return list(parts.values())


def voted(part: np.ndarray) -> np.ndarray:
    """1 where a member's choice stands, and else 0; of several largest values the first counts."""
    if part.shape[1] == 1:
        return (part > 0.5).astype(np.float64)
    return np.eye(part.shape[1])[part.argmax(axis=1)]


def stacked(parts: list[np.ndarray]) -> np.ndarray:
    """Logarithms of all probabilities side by side, `(n, members * k)`."""
    return np.log(np.maximum(np.concatenate(parts, axis=1), LEAST))


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def suited(x: Any, shape: Any) -> Any:
    """Rows as a model takes them: flattened where it wants columns and gets images.

    Example:
        >>> suited(np.zeros((5, 8, 8, 1)), (64,)).shape
        (5, 64)
    """
    if isinstance(shape, tuple) and len(shape) == 1 and getattr(x, "ndim", 0) > 2:
        return x.reshape(len(x), -1)
    return x


def write(path: Path, rule: Rule, members: Mapping[str, str]) -> None:
    """Write the file that stands for an ensemble.

    Args:
        path: The file; its members lie beside it.
        rule: How they are combined.
        members: Name -> file.
    """
    found = [{"name": name, "file": file, "sha256": _checksum(path.parent / file)} for name, file in members.items()]
    manifest.write_sealed(path, {"format": _FORMAT, **rule.told(), "members": found})


def read(path: Path) -> tuple[Rule, dict[str, Path]]:
    """The rule and the files of the members of an ensemble.

    Raises:
        ValueError: If it is damaged, or a member is missing or was changed; it is named.
    """
    told = manifest.read_sealed(path)
    try:
        if told["format"] != _FORMAT or told["how"] not in HOW:
            raise ValueError(f"it has the format {told['format']!r} and how={told['how']!r}")
        arrays = {key: None if told[key] is None else np.asarray(told[key], np.float64) for key in _ARRAYS}
        members = {str(entry["name"]): (str(entry["file"]), entry["sha256"]) for entry in told["members"]}
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not tell of an ensemble as masslib does: {error!r}; package it again") from error
    for name, (file, sha256) in members.items():
        place = path.parent / file
        if Path(file).name != file or place.is_symlink() or not place.exists():
            raise ValueError(f"member {name!r} of {path}: {file} is missing; it has to lie beside it")
        if place.suffix == SUFFIX:
            raise ValueError(f"member {name!r} of {path}: {file} is an ensemble itself; its members belong here")
        if _checksum(place) != sha256:
            raise ValueError(f"member {name!r} of {path}: {file} was changed; make or copy the folder again")
    return Rule(told["how"], **arrays), {name: path.parent / file for name, (file, _) in members.items()}


_ARRAYS = ("weights", "kernel", "bias")


def files(path: Path) -> list[Path]:
    """The file itself and those of its members, for their sizes."""
    return [path, *read(path)[1].values()]


def _checksum(place: Path) -> str | None:
    """A SavedModel, which is a folder, has a manifest of its own."""
    return None if place.is_dir() else manifest.checksum(place)


def failed(name: str, kind: str, error: Exception) -> ValueError:
    """What is said of a member that cannot answer."""
    return ValueError(f"member {name!r} ({kind}) cannot answer: {first_line(error)}")
