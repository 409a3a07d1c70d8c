"""The trials of a search: made, judged by their files, and kept in a folder so that a search can go on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from masslib import export, measure
from masslib._util.files import replacing
from masslib._util.manifest import read_sealed, write_sealed
from masslib.compression.recipe import compress
from masslib.compression.result import Compressed
from masslib.evaluation.tasks import compiled_options
from masslib.selection._sensitivity import Sensitivity
from masslib.selection.candidates import Candidate
from masslib.selection.judging import Bulk, cost, quality
from masslib.selection.metric import Metric

if TYPE_CHECKING:
    import keras

    from masslib.data import Splits

_SEARCH, _SENSITIVITY, _TRIAL = "search.json", "sensitivity.json", "trial.json"
_FILE, _MODEL = "model.tflite", "compressed"
_COLUMNS = ("size_kb", "gzipped_kb", "times_smaller", "nonzero", "mflops", "median_ms", "times_faster")


@dataclass(frozen=True)
class Trial:
    """One recipe and what became of it.

    Attributes:
        name: Family and strength.
        family: Name of the family.
        strength: From 0 to 1.
        recipe: The steps, as one would type them.
        accepted: Whether the metric on the validation split stayed within the budget.
        score: What the search makes small.
        figures: What is shown in the table.
        note: Why it could not be made, if it could not.
    """

    name: str
    family: str
    strength: float
    recipe: str
    accepted: bool
    score: tuple[float, ...]
    figures: dict[str, float]
    note: str = ""


class Folder:
    """Where the trials of one search lie; every file appears whole and carries its checksum.

    Attributes:
        baseline: Where the float file belongs.
    """

    def __init__(self, path: Path, about: dict[str, Any]):
        self._path = path
        self.baseline = path / "float.tflite"
        if (path / _SEARCH).exists():
            other = read_sealed(path / _SEARCH)
            different = sorted(key for key in about if about[key] != other.get(key))
            if different:
                raise ValueError(
                    f"{path} holds a search with another {', '.join(different)}; pass another folder, or the same "
                    "model, data and settings to go on with it"
                )
        else:
            _keep(path / _SEARCH, about)

    def file(self, number: int) -> Path:
        """The TFLite file of a trial."""
        return self._place(number) / _FILE

    def model(self, number: int) -> Compressed:
        """The compressed model of a trial."""
        return Compressed.load(self._place(number) / _MODEL)

    def trial(self, number: int, name: str) -> Trial | None:
        """A trial that was made before, or None.

        Raises:
            ValueError: If it is damaged, or another one than `name`.
        """
        file = self._place(number) / _TRIAL
        if not file.exists():
            return None
        found = read_sealed(file)
        if found["name"] != name:
            raise ValueError(f"{file} is the trial {found['name']!r}, expected {name!r}; pass another folder")
        return Trial(**found | {"score": tuple(found["score"])})

    def sensitivity(self) -> Sensitivity | None:
        """What was measured before, or None."""
        if not (self._path / _SENSITIVITY).exists():
            return None
        found = read_sealed(self._path / _SENSITIVITY)
        table = pd.DataFrame.from_dict(found.pop("rows"), orient="index", columns=found.pop("levels"))
        return Sensitivity(table=table, **found)

    def keep_sensitivity(self, found: Sensitivity) -> None:
        """Write it down."""
        rows = {str(name): list(row) for name, row in found.table.iterrows()}
        names = ("technique", "baseline", "weights", "metric", "larger_is_better")
        about = {name: getattr(found, name) for name in names}
        _keep(self._path / _SENSITIVITY, {**about, "rows": rows, "levels": list(found.table.columns)})

    def make(self, number: int, judge: Judge, candidate: Candidate) -> Trial:
        """Run a trial and keep it, whole or not at all."""
        with replacing(self._place(number)) as place:
            place.mkdir()
            return make_trial(place, judge, candidate)

    def keep(self, number: int, name: str, files: Mapping[str, bytes]) -> Trial:
        """Keep a trial that was made elsewhere, whole or not at all."""
        with replacing(self._place(number)) as place:
            for file, content in files.items():
                (place / file).parent.mkdir(parents=True, exist_ok=True)
                (place / file).write_bytes(content)
        return self.trial(number, name)

    def _place(self, number: int) -> Path:
        return self._path / f"trial-{number:03d}"


class Judge:
    """Makes trials of one model, and judges them beside its float file."""

    def __init__(
        self,
        model: keras.Model,
        splits: Splits,
        baseline: Path,
        *,
        objective: str,
        max_drop: float,
        metric: Metric,
        options: Mapping[str, Any],
    ):
        self._model, self._splits, self._baseline, self._metric = model, splits, baseline, metric
        self._objective, self._max_drop, self._options = objective, max_drop, options
        export.tflite(model, baseline, batch_size="auto")
        self._told = compiled_options(model)
        self._row = splits.valid[:1][0]
        self._float = metric.score(baseline, splits.valid, self._told)
        self._bulk = Bulk.of(baseline, self._row)

    def beside(self, baseline: Path) -> Judge:
        """The same judge in a process of its own, where nobody watches: with the float file in another place."""
        judge = copy(self)
        judge._baseline, judge._options = baseline, {**self._options, "verbose": False}
        return judge

    def trial(self, candidate: Candidate, file: Path, folder: Path) -> Trial:
        """Compress, export and measure; what cannot be made is a trial that was not accepted."""
        start = time.perf_counter()
        about = {"name": candidate.name, "family": candidate.family.name, "strength": candidate.strength}
        try:
            steps = candidate.steps
            small = compress(self._model, steps, self._splits.train, **self._options)
            export.tflite(small, file, batch_size="auto")
        except ValueError as error:
            # Not every technique fits every model: what the bridge, TFMOT or the checks of the file refuse.
            return Trial(**about, recipe="", accepted=False, score=(), figures={}, note=str(error))
        small.save(folder)
        figures = self.figures(file) | {"seconds": time.perf_counter() - start}
        accepted = figures[self._metric.drop_column] <= self._metric.points * self._max_drop + 1e-9
        return Trial(**about, recipe=repr(steps), accepted=accepted, score=self._score(figures), figures=figures)

    def figures(self, file: Path) -> dict[str, float]:
        """Measure a file, for the table."""
        score = self._metric.score(file, self._splits.valid, self._told)
        times = measure.latencies({"float": self._baseline, "trial": file}, example_inputs=self._row)
        row = quality(self._metric, score, self._float)
        row |= cost(Bulk.of(file, self._row), times["trial"], self._bulk, times["float"])
        found = {column: row[column] for column in (self._metric.name, self._metric.drop_column, *_COLUMNS)}
        if self._objective == "packed":
            found["packed_kb"] = measure.file_size(export.packed(file, self.kept(file))).raw / 1000
        return found

    def kept(self, file: Path) -> Path:
        """What is kept of a TFLite file for the user: itself, or the packed one beside it."""
        return file.with_suffix(".packed") if self._objective == "packed" else file

    def _score(self, figures: Mapping[str, float]) -> tuple[float, ...]:
        if self._objective == "packed":
            return (figures["packed_kb"],)
        if self._objective == "latency":
            return (1 / figures["times_faster"], figures["gzipped_kb"])
        return (figures["mflops"], figures["gzipped_kb"])[:: 1 if self._objective == "flops" else -1]


def make_trial(place: Path, judge: Judge, candidate: Candidate) -> Trial:
    """Run a trial and leave what belongs to it in a folder."""
    trial = judge.trial(candidate, place / _FILE, place / _MODEL)
    write_sealed(place / _TRIAL, asdict(trial))
    return trial


def fingerprint(model: keras.Model) -> str:
    """SHA-256 of the architecture and the weights of a model."""
    digest = hashlib.sha256(model.to_json().encode())
    for weight in model.get_weights():
        digest.update(weight.tobytes())
    return digest.hexdigest()


def _keep(file: Path, content: Mapping[str, Any]) -> None:
    with replacing(file) as temporary:
        write_sealed(temporary, content)
