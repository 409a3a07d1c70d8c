"""The last part: a service, photos sent to it, and people who correct its answers."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shutil
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import masslib.serving
from masslib import data

import numpy as np
from PIL import Image

NAME = "garden"
CLIENTS = 8
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ORIENTATION = 0x0112  # tag of EXIF

Answers = list[dict[str, Any]]


def png(pixels: np.ndarray) -> bytes:
    """A photo `(h, w, 3)` as a file."""
    return _file(Image.fromarray(pixels), "PNG")


def turned_jpeg(pixels: np.ndarray) -> bytes:
    """A photo as a camera stores it that was held upright: lying, with a tag of EXIF that says so."""
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    return _file(Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=90)


def _file(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@contextmanager
def on_core(number: int) -> Iterator[None]:
    """Keep to one core, as do the processes started meanwhile; nothing where the system does not offer it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[number % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def ask(server: masslib.serving.Server, files: list[bytes]) -> tuple[Answers, np.ndarray]:
    """Send photos on eight connections, from a process of its own on the second core.

    Args:
        server: It serves the model `garden`.
        files: PNG or JPEG.

    Returns:
        The answers in the order of the photos, and the milliseconds that each took, from file to answer.
    """
    with on_core(1), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_send, server.port, files).result()


def _send(port: int, files: list[bytes]) -> tuple[Answers, np.ndarray]:
    answers: Answers = [{} for _ in files]
    milliseconds, left = np.zeros(len(files)), iter(enumerate(files))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number, file in left:
            start = time.perf_counter()
            writer.write(
                f"POST /classify?model={NAME} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
                f"Content-Length: {len(file)}\r\n\r\n".encode()
                + file
            )
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(int(_LENGTH.search(head)[1]))
            milliseconds[number] = (time.perf_counter() - start) * 1000
            if not head.startswith(b"HTTP/1.1 200"):
                raise ValueError(f"photo {number} was refused: {body.decode(errors='replace')}")
            answers[number] = json.loads(body)
        writer.close()
        await writer.wait_closed()

    async def clients() -> None:
        await asyncio.gather(*(client() for _ in range(CLIENTS)))

    asyncio.run(clients())
    return answers, milliseconds


def right(answers: Answers, subset: data.Subset) -> float:
    """The share of answers whose best label is the right one."""
    labels = np.asarray(subset.classes)[np.asarray(subset.y)]
    best = np.asarray([answer["labels"][0]["label"] for answer in answers])
    return float(np.mean(best == labels))


def drifts(server: masslib.serving.Server) -> dict[str, float]:
    """The population stability index of what came in, by figure."""
    versions = server.status()["models"][NAME]["versions"]
    return {name: told["psi"] for name, told in versions[max(versions, key=int)]["drift"].items()}


def correct(server: masslib.serving.Server, answers: Answers, subset: data.Subset) -> None:
    """Send the right label of each photo, as people do on the page."""
    for answer, label in zip(answers, np.asarray(subset.y), strict=True):
        told = {"request_id": answer["request_id"], "label": subset.classes[label]}
        request = urllib.request.Request(
            f"{server.url}/feedback", json.dumps(told).encode(), {"content-type": "application/json"}
        )
        urllib.request.urlopen(request).close()


def put(package: Path, root: Path, version: int) -> None:
    """Hand a package to the service: it appears at once, whole."""
    hidden = root / NAME / f".{version}"
    shutil.copytree(package, hidden)
    hidden.rename(root / NAME / str(version))
