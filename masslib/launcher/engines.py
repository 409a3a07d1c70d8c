"""What starts workers elsewhere: an engine runs a function once per worker, all at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

Member = Callable[[int, str], bytes | None]
"""Runs one worker in a task: rank, and the GPUs that the engine gives it -> the pickled result, None if it failed."""


class Job(Protocol):
    """The tasks of one attempt."""

    def problem(self) -> str | None:
        """What the engine says, once it knows that the tasks cannot all run to their end."""

    def results(self) -> list[bytes | None]:
        """What the tasks have returned, by rank; waits for them."""

    def stop(self) -> None:
        """See that no task is left, within some seconds or by force."""


class Engine(Protocol):
    """A cluster that runs tasks.

    Attributes:
        name: What messages call it.
        host: Address of this process that the tasks reach.
    """

    name: str
    host: str

    def threads(self, least: int, most: int, threads: int | None) -> int:
        """How many threads each worker gets; `ValueError` if not even the least number can run at once."""

    def room(self, most: int, threads: int, gpus: int, seconds: float) -> int:
        """Wait for room for so many workers, no longer than that; how many have room then."""

    def looking(self, workers: int, threads: int, gpus: int) -> AbstractContextManager[Callable[[], bool]]:
        """Give a function that tells, once the workers run, whether there is room for one more."""

    def start(self, member: Member, workers: int, threads: int, gpus: int) -> Job:
        """Start a task for each worker, on as many hosts as possible."""
