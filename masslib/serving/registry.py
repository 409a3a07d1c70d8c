"""What a worker serves: the loaded versions of each model, their labels, and which of them answers a request."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from masslib._util.messages import first_line
from masslib.runtime.signature import DEFAULT
from masslib.serving import logs
from masslib.serving.batching import Arrays, Batcher
from masslib.serving.drift import Drift
from masslib.serving.loaded import Loaded, load
from masslib.serving.messages import HTTPError
from masslib.serving.metrics import Metrics
from masslib.serving.settings import Settings


@dataclass
class Version:
    """A loaded version with what feeds and watches it.

    Attributes:
        loaded: The default signature of its file.
        batcher: Gathers what it is to answer.
        metrics: Of all signatures.
        drift: Watches the default one, or None.
        others: Name -> signature beside the default one, fed by itself.
    """

    loaded: Loaded
    batcher: Batcher
    metrics: Metrics
    drift: Drift | None
    others: dict[str, Version] = field(default_factory=dict)

    @property
    def signatures(self) -> dict[str, Version]:
        """All signatures, the default one first. (Kept, it would hold itself, and its memory when it is let go.)"""
        return {self.loaded.signature: self, **self.others}

    @property
    def waiting(self) -> int:
        """Rows that wait, of all signatures."""
        return sum(it.batcher.waiting for it in self.signatures.values())

    def signature(self, name: Any) -> Version:
        """The signature that answers; without a name, or with that of TensorFlow Serving, the default one.

        Raises:
            HTTPError: 400 if there is none.
        """
        if name is None or name == "" or name == DEFAULT:
            return self
        signatures = self.signatures
        if not isinstance(name, str):
            raise HTTPError(400, f"the name of the signature is no text; there are {', '.join(signatures)}")
        if name in self.loaded.left_out:
            raise HTTPError(400, f"signature {name!r} is not served: {self.loaded.left_out[name]}")
        if name not in signatures:
            raise HTTPError(400, f"there is no signature {name[:64]!r}; there are {', '.join(signatures)}")
        return signatures[name]


@dataclass
class Model:
    """The versions of one name.

    Attributes:
        versions: Number -> version.
        labels: Label -> number; `stable` always is one of them.
        canary_share: Share of the requests without version and label that `canary` answers.
        refused: Number -> why it does not serve.
    """

    name: str
    versions: dict[int, Version]
    labels: dict[str, int]
    canary_share: float
    refused: dict[int, str] = field(default_factory=dict)

    def choose(self, version: str | None = None, label: str | None = None) -> Version:
        """The version that answers.

        Raises:
            HTTPError: 404 if there is none.
        """
        if version is not None:
            found = self.versions.get(int(version)) if version.isdecimal() and len(version) < 19 else None
            if found is None:
                raise HTTPError(404, f"model {self.name} has no version {version[:32]!r} that is loaded")
            return found
        if label is not None:
            if label not in self.labels:
                raise HTTPError(404, f"model {self.name} has no label {label[:32]!r}")
            return self.versions[self.labels[label]]
        if "canary" in self.labels and random.random() < self.canary_share:
            return self.versions[self.labels["canary"]]
        return self.versions[self.labels["stable"]]

    @property
    def shadow(self) -> Version | None:
        """The version that answers along without being heard."""
        return self.versions[self.labels["shadow"]] if "shadow" in self.labels else None


class Registry:
    """All models of a worker, brought to the state that the supervisor asks for.

    Args:
        settings: Limits.
        drift_folder: Where the counts of inputs and answers lie, shared by the workers.
    """

    def __init__(self, settings: Settings, drift_folder: Path):
        self.models: dict[str, Model] = {}
        self.restarts = 0
        self._settings, self._drift_folder = settings, drift_folder
        self._thread = ThreadPoolExecutor(1, "load")

    def model(self, name: str | None) -> Model:
        """The model of a name; without one the only one.

        Raises:
            HTTPError: 404 if there is none, 400 if there are several to choose from.
        """
        if name is None:
            if len(self.models) != 1:
                raise HTTPError(400, f"say which model: {', '.join(sorted(self.models)) or 'none is served yet'}")
            return next(iter(self.models.values()))
        if name not in self.models or not self.models[name].versions:
            raise HTTPError(404, f"there is no model {name[:64]!r}")
        return self.models[name]

    async def apply(self, state: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        """Load what is missing, then switch at once, and let go of what is not wanted any more.

        What runs keeps its version alive until it is answered.

        Returns:
            Model -> version -> why it could not be loaded.
        """
        failed: dict[str, dict[str, str]] = {}
        models = {}
        for name, wanted in state["models"].items():
            old = self.models[name].versions if name in self.models else {}
            versions, own = {}, failed.setdefault(name, {})
            for number, about in wanted["versions"].items():
                before = old.get(int(number))
                if before is not None and before.loaded.sha256 == about["sha256"]:
                    versions[int(number)] = before
                    continue
                try:
                    versions[int(number)] = await self._load(name, int(number), about)
                except Exception as error:  # whatever the file makes a runtime raise
                    own[number] = first_line(error)
                    logs.event("load_failed", level="error", model=name, version=int(number), why=first_line(error))
            models[name] = self._model(name, wanted, versions)
        self.models = {name: model for name, model in models.items() if model.versions or model.refused}
        self.restarts = state.get("restarts", 0)
        return {name: why for name, why in failed.items() if why}

    def _model(self, name: str, wanted: Mapping[str, Any], versions: dict[int, Version]) -> Model:
        labels = {label: number for label, number in wanted["labels"].items() if number in versions}
        if versions:
            labels.setdefault("stable", max(versions))
        refused = {int(number): why for number, why in wanted["refused"].items()}
        return Model(name, versions, labels, wanted["canary_share"], refused)

    async def _load(self, name: str, number: int, about: Mapping[str, Any]) -> Version:
        settings, loop = self._settings, asyncio.get_running_loop()

        def work() -> Loaded:
            return load(
                name, number, Path(about["folder"]), about["file"], about["sha256"],
                threads=settings.threads, max_batch=settings.max_batch,
            )  # fmt: skip

        loaded = await loop.run_in_executor(self._thread, work)
        metrics = Metrics(name, number, loaded.labels)
        drift = Drift(self._drift_folder, loaded, settings.drift_window) if loaded.bins is not None else None

        def fed(loaded: Loaded, drift: Drift | None) -> Version:
            limits = {"queue": settings.queue, "max_wait": settings.max_wait, "done": _watcher(metrics, drift)}
            return Version(loaded, Batcher(loaded.run, loaded.sizes, loaded.seconds, **limits), metrics, drift)

        version = fed(loaded, drift)
        version.others = {it.signature: fed(it, None) for it in loaded.others}
        logs.event(
            "loaded", model=name, version=number, file=loaded.file, batches=list(loaded.sizes),
            ms=round(loaded.seconds * 1000, 3), inline=version.batcher.inline, signatures=list(version.signatures),
            left_out=loaded.left_out,
        )  # fmt: skip
        return version


def _watcher(metrics: Metrics, drift: Drift | None) -> Callable[[int, float, Arrays, Arrays], None]:
    def done(rows: int, seconds: float, inputs: Arrays, outputs: Arrays) -> None:
        metrics.batch(rows, seconds)
        if drift is not None:
            drift.count(inputs, outputs)

    return done
