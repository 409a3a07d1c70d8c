"""Trials that are made side by side before their turn has come, so that a search goes the way that it goes in turn."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from masslib._util.mapping import called, slots
from masslib.selection.candidates import Candidate, Family, Tried, next_candidate
from masslib.selection.trials import Folder, Judge, Trial, make_trial


@dataclass(frozen=True)
class _Guess:
    """A trial as it may turn out: accepted and better than all before it, or refused."""

    family: str
    strength: float
    accepted: bool
    score: tuple[float, ...] = (float("-inf"),)


def may_come_next(families: Sequence[Family], trials: Sequence[Tried], count: int, turns: int) -> list[Candidate]:
    """Return what a search may try next, the surest first: it follows every trial that could go both ways.

    Args:
        families: As in `next_candidate`.
        trials: Those that are made.
        count: How many candidates at most, at least 1.
        turns: How many turns ahead to look.

    Returns:
        The next candidate, if there is one, then what follows if it is accepted, and if it is refused, and so on.
    """
    found: dict[str, Candidate] = {}
    pasts: list[list[Tried]] = [list(trials)]
    for _ in range(turns):
        futures: list[list[Tried]] = []
        for past in pasts:
            if len(found) == count:
                return list(found.values())
            candidate = next_candidate(families, past)
            if candidate is not None:
                found.setdefault(candidate.name, candidate)
                about = candidate.family.name, candidate.strength
                futures += [[*past, _Guess(*about, accepted)] for accepted in (True, False)]
        pasts = futures
    return list(found.values())


class Ahead:
    """Makes trials in waves of as many as the engine runs at once.

    Args:
        store: Where the trials are kept that the search takes.
        judge: What makes them; it travels, with its model and data.
        families: As in `next_candidate`.
        on: As in `masslib._util.mapping.mapped`.
    """

    def __init__(self, store: Folder, judge: Judge, families: Sequence[Family], on: Any):
        self._store, self._judge, self._families, self._on = store, judge, families, on
        self._made: dict[str, dict[str, bytes]] = {}

    def make(self, trials: Sequence[Trial], candidate: Candidate, turns: int) -> Trial:
        """Return the trial of the next candidate; where it has not been made yet, make it and what may follow it."""
        if candidate.name not in self._made:
            wave = may_come_next(self._families, trials, slots(self._on), turns)
            baseline = self._store.baseline.read_bytes()
            calls = [partial(_files_of_trial, self._judge, baseline, each) for each in wave]
            made = called(calls, self._on)
            self._made = {each.name: files for each, files in zip(wave, made, strict=True)}
        return self._store.keep(len(trials), candidate.name, self._made[candidate.name])


def _files_of_trial(judge: Judge, baseline: bytes, candidate: Candidate) -> dict[str, bytes]:
    """Make a trial in this process, wherever that is; nothing but its return value leaves it."""
    with tempfile.TemporaryDirectory() as name:
        place, plain = Path(name, "trial"), Path(name, "float.tflite")
        place.mkdir()
        plain.write_bytes(baseline)
        make_trial(place, judge.beside(plain), candidate)
        files = (path for path in place.rglob("*") if path.is_file())
        return {str(path.relative_to(place)): path.read_bytes() for path in files}
