"""The folder that is served: which versions lie there, which labels they have, and what follows from that."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from masslib._util.files import replacing

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,31}")
LABELS = "labels.json"
DEFAULT_SHARE = 0.05

Fingerprint = tuple[tuple[str, int, int, int], ...]


@dataclass
class Labels:
    """What `python -m masslib versions` writes for a model.

    Attributes:
        versions: Label -> version. `stable` answers; `canary` answers a share; `shadow` answers unheard.
        canary_share: That share.
    """

    versions: dict[str, int] = field(default_factory=dict)
    canary_share: float = DEFAULT_SHARE


def models(folder: Path) -> list[str]:
    """Names of the models in a folder."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and _NAME.fullmatch(entry.name))


def versions(folder: Path, name: str) -> dict[int, Fingerprint]:
    """The versions of a model that lie there, and what tells whether their files were changed."""
    found = {}
    try:
        with os.scandir(folder / name) as entries:
            for entry in entries:
                if entry.is_dir() and _NUMBER.fullmatch(entry.name):
                    found[int(entry.name)] = _fingerprint(Path(entry.path))
    except FileNotFoundError:  # removed meanwhile
        return {}
    return found


def _fingerprint(folder: Path) -> Fingerprint:
    files = []
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.stat(os.path.join(place, name))
            except FileNotFoundError:
                continue
            files.append((os.path.join(place, name), status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(sorted(files))


def read_labels(folder: Path, name: str) -> Labels:
    """The labels of a model; none if there is no such file.

    Raises:
        ValueError: If the file is damaged.
    """
    path = folder / name / LABELS
    try:
        told = json.loads(path.read_bytes())
    except FileNotFoundError:
        return Labels()
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    fits = isinstance(told, dict) and isinstance(told.get("labels"), dict)
    fits = fits and all(_LABEL.fullmatch(label) and type(number) is int for label, number in told["labels"].items())
    share = told.get("canary_share", DEFAULT_SHARE) if fits else None
    if not fits or isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError(f"{path}: expected labels with numbers of versions, and a canary_share from 0 to 1")
    return Labels(dict(told["labels"]), float(share))


def write_labels(folder: Path, name: str, labels: Labels) -> None:
    """Replace the labels of a model.

    Raises:
        ValueError: If a label is none.
    """
    wrong = [label for label in labels.versions if not _LABEL.fullmatch(label)]
    if wrong or not 0 <= labels.canary_share <= 1:
        raise ValueError(f"{wrong or labels.canary_share}: expected small letters for a label, a share from 0 to 1")
    with replacing(folder / name / LABELS) as temporary:
        told = {"labels": labels.versions, "canary_share": labels.canary_share}
        temporary.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def stable(good: Iterable[int], labels: Mapping[str, int]) -> int | None:
    """The version that answers: the one with the label if it is good, else the newest without a part of its own."""
    good = set(good)
    if labels.get("stable") in good:
        return labels["stable"]
    others = good - {number for label, number in labels.items() if label in ("canary", "shadow")}
    return max(others or good, default=None)


def wanted(
    good: Mapping[int, Mapping[str, Any]], refused: Mapping[int, str], labels: Labels, keep: int
) -> dict[str, Any]:
    """What the workers are to load of a model, and which labels its versions have.

    Args:
        good: Version -> what the workers need to know of it.
        refused: Version -> why it is not served.
        labels: As they are written down.
        keep: Newest versions that are loaded besides those with a label.
    """
    own = {label: number for label, number in labels.versions.items() if number in good}
    answering = stable(good, labels.versions)
    if answering is not None:
        own["stable"] = answering
    loaded = {*own.values(), *sorted(good)[-keep:]}
    return {
        "versions": {str(number): dict(good[number]) for number in sorted(loaded)},
        "labels": own,
        "canary_share": labels.canary_share,
        "refused": {str(number): why for number, why in sorted(refused.items())},
    }
