"""From inputs to answers: which version, the batch, the shadow, the counts, the record. Every protocol comes here."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from masslib._util.messages import first_line
from masslib._util.photos import Unsuitable
from masslib.serving import metrics
from masslib.serving.batching import Answer, busy
from masslib.serving.loaded import SMALL_PIXELS
from masslib.serving.messages import HTTPError, Request
from masslib.serving.registry import Model, Registry, Version
from masslib.serving.settings import Settings

if TYPE_CHECKING:
    from masslib.serving.recording import Recorder

_DECODERS, _MOST_DECODING = 2, 32


@dataclass(slots=True)
class Result:
    """What one request gets."""

    version: Version
    answer: Answer
    decode: float = 0.0

    @property
    def first(self) -> np.ndarray:
        """The first output."""
        return next(iter(self.answer.outputs.values()))


class Service:
    """All that the protocols need.

    Args:
        registry: The models.
        settings: Limits.
        recorder: Keeps answers, or None.
    """

    def __init__(self, registry: Registry, settings: Settings, recorder: Recorder | None = None):
        self.registry, self.settings, self.recorder = registry, settings, recorder
        self.started, self.ready = time.time(), False
        self._decoders = ThreadPoolExecutor(_DECODERS, "decode")
        self._decoding = 0
        self._shadows: set[asyncio.Task] = set()

    async def predict(
        self, request: Request, model: Model, version: Version, inputs: Mapping[str, np.ndarray], rows: int,
        *, timeout: float | None = None, photo: bytes | None = None, decode: float = 0.0,
    ) -> Result:  # fmt: skip
        """Answer rows that have been checked.

        Args:
            request: Where they come from.
            model: Whose version answers.
            version: The version, or one of its signatures.
            inputs: Arrays `(n, ...)`.
            rows: n.
            timeout: Seconds to wait at most; never more than the settings say.
            photo: What the row was made of, to be recorded.
            decode: Seconds that this took.

        Raises:
            HTTPError: 503 if too many wait, 400 if the model refuses the rows.
        """
        limit = self.settings.timeout
        waiting = version.batcher.submit(inputs, rows, min(timeout or limit, limit))
        try:
            answer: Answer = await waiting
        except ValueError as error:  # what a predictor raises, without its path
            raise HTTPError(400, f"the model cannot answer this: {first_line(error).rpartition(': ')[2]}") from error
        result = Result(version, answer, decode)
        version.metrics.queue(answer.queue)
        scores = result.first
        if version.loaded.labels is not None and scores.ndim == 2:
            for number in scores.argmax(axis=1) if rows > 1 else (int(scores.argmax()),):
                version.metrics.predicted(number)
        shadow = model.shadow
        if shadow is not None and not version.loaded.default:
            shadow = shadow.others.get(version.loaded.signature)
        if shadow is not None and shadow is not version:
            self._ask(shadow, inputs, rows, scores)
        # People judge answers; the steps on the way to one are other signatures.
        if self.recorder is not None and version.loaded.default and random.random() < self.settings.record_share:
            self.recorder.keep(request.id, version.loaded, inputs, answer.outputs, photo)
        return result

    def _ask(self, shadow: Version, inputs: Mapping[str, np.ndarray], rows: int, sent: np.ndarray) -> None:
        """Let the shadow answer along, unless it is busy."""
        if shadow.batcher.waiting > self.settings.queue // 4:
            return
        if [(t.name, t.shape, t.dtype) for t in shadow.loaded.inputs] != [
            (name, array.shape[1:], array.dtype) for name, array in inputs.items()
        ]:
            shadow.metrics.shadowed(0, rows)
            return

        async def compare() -> None:
            try:
                answer = await shadow.batcher.submit(inputs, rows, self.settings.timeout)
            except (HTTPError, ValueError):
                metrics.failed("shadow")
                return
            own = next(iter(answer.outputs.values()))
            same = int(_same(own, sent).sum()) if own.shape == sent.shape else 0
            shadow.metrics.shadowed(same, rows - same)

        task = asyncio.get_running_loop().create_task(compare())
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    async def photo(self, version: Version, data: bytes) -> tuple[np.ndarray, float]:
        """One row of a photo, and the seconds that decoding took.

        Raises:
            HTTPError: 415 if the model takes no photos, 400 if this is none, 503 if too many wait.
        """
        loaded = version.loaded
        if not loaded.takes_photos:
            raise HTTPError(415, f"model {loaded.name} takes no photos; send numbers to /v2/models/{loaded.name}/infer")
        loop, start = asyncio.get_running_loop(), time.perf_counter()
        try:
            row = loaded.photo(data, SMALL_PIXELS)
            if row is None:
                if self._decoding >= _MOST_DECODING:
                    raise busy("too many photos wait", 1)
                self._decoding += 1
                try:
                    row = await loop.run_in_executor(self._decoders, loaded.photo, data, self.settings.max_pixels)
                finally:
                    self._decoding -= 1
        except (HTTPError, asyncio.CancelledError):
            raise
        except Unsuitable as error:
            raise HTTPError(400, f"this photo is {error}") from None
        except Exception as error:  # whatever a damaged file makes Pillow raise
            raise HTTPError(400, "this is no PNG, JPEG or WebP photo, or a damaged one") from error
        if row is None:
            raise HTTPError(400, f"this photo is too large: at most {self.settings.max_pixels:,} pixels")
        took = time.perf_counter() - start
        version.metrics.decode(took)
        return row, took

    def status(self) -> dict[str, Any]:
        """What the page and `python -m masslib versions` show."""
        return {
            "ready": self.ready,
            "uptime": round(time.time() - self.started, 1),
            "restarts": self.registry.restarts,
            "answered": metrics.total(),
            "recording": self.recorder is not None,
            "models": {name: _told(model) for name, model in sorted(self.registry.models.items())},
        }


def _same(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    if one.ndim == 2 and one.shape[1] > 1:
        return one.argmax(axis=1) == other.argmax(axis=1)
    return np.isclose(one, other, rtol=0.05, atol=1e-6).reshape(len(one), -1).all(axis=1)


def _told(model: Model) -> dict[str, Any]:
    versions = {}
    for number, version in sorted(model.versions.items()):
        loaded, drift = version.loaded, version.drift
        versions[str(number)] = {
            "file": loaded.file,
            "photos": loaded.takes_photos,
            "examples": len(loaded.examples),
            "classes": loaded.labels,
            "batches": loaded.sizes,
            "queue": version.waiting,
            "signatures": list(version.signatures),
            "left_out": loaded.left_out,
            "drift": drift.distances() if drift is not None else {},
            "answers": drift.classes() if drift is not None else {},
        }
    refused = {str(number): why for number, why in sorted(model.refused.items())}
    return {"labels": model.labels, "canary_share": model.canary_share, "versions": versions, "refused": refused}
