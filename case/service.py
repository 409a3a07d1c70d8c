"""The last part: a package, a service, photos sent to it, a change in them that is noticed, and a new version."""

from __future__ import annotations

import io
import json
import shutil
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import masslib.serving
from masslib import data

import numpy as np
from PIL import Image

from case.photos import night

NAME = "garden"
CLIENTS = 8


def png(pixels: np.ndarray) -> bytes:
    """One photo as a file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def ask(server: masslib.serving.Server, pixels: np.ndarray) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Send photos from eight clients at once.

    Returns:
        The answers in the order of the photos, and the milliseconds that each took.
    """
    files = [png(photo) for photo in pixels]

    def one(file: bytes) -> tuple[dict[str, Any], float]:
        start = time.perf_counter()
        return server.classify(file), (time.perf_counter() - start) * 1000

    with ThreadPoolExecutor(CLIENTS) as clients:
        answered = list(clients.map(one, files))
    return [answer for answer, _ in answered], np.array([ms for _, ms in answered])


def right(answers: list[dict[str, Any]], subset: data.Subset) -> float:
    """The share of answers whose best label is the right one."""
    labels = np.asarray(subset.classes)[np.asarray(subset.y)]
    best = np.asarray([answer["labels"][0]["label"] for answer in answers])
    return float(np.mean(best == labels))


def drifts(server: masslib.serving.Server) -> dict[str, float]:
    """The population stability index of what came in, by figure."""
    versions = server.status()["models"][NAME]["versions"]
    return {name: told["psi"] for name, told in versions[max(versions, key=int)]["drift"].items()}


def correct(server: masslib.serving.Server, answers: list[dict[str, Any]], subset: data.Subset) -> None:
    """Send the right label of each photo, as people on the page would."""
    for answer, label in zip(answers, np.asarray(subset.y), strict=True):
        told = {"request_id": answer["request_id"], "label": subset.classes[label]}
        request = urllib.request.Request(
            f"{server.url}/feedback", json.dumps(told).encode(), {"content-type": "application/json"}
        )
        urllib.request.urlopen(request).close()


def at_night(subset: data.Subset) -> data.Subset:
    """The same photos, at night."""
    return data.from_arrays(night(subset.rows.raw(slice(None))), np.asarray(subset.y), classes=subset.classes)


def put(package: Path, root: Path, version: int) -> None:
    """Hand a package to the service: it appears at once, whole."""
    hidden = root / NAME / f".{version}"
    shutil.copytree(package, hidden)
    hidden.rename(root / NAME / str(version))
