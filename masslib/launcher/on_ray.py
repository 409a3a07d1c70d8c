"""Workers in the tasks of a Ray placement group, which has room for all of them or is not made.

Source: https://docs.ray.io/en/latest/ray-core/scheduling/placement-group.html
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

from masslib._util.extras import needed_by
from masslib.launcher.engines import Member

with needed_by("launch(on='ray')"):
    import ray
    from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

_STOP_SECONDS, _TRY_SECONDS, _SPREAD_SECONDS = 10.0, 2.0, 10.0


class Ray:
    """A Ray cluster: the one that this process is connected to, else that of an address, else a new local one."""

    name = "Ray"

    def __init__(self, address: str | None = None):
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False, include_dashboard=None)
        self.host = ray.util.get_node_ip_address()

    def threads(self, least: int, most: int, threads: int | None) -> int:
        """The CPUs of the cluster shared out, unless told otherwise."""
        return threads or max(1, int(ray.cluster_resources().get("CPU", 1)) // most)

    def room(self, most: int, threads: int, gpus: int, seconds: float) -> int:
        """Try placement groups, which are made whole or not at all; one that waits asks an autoscaler for nodes."""
        for workers in range(most, 0, -1):
            group = _group(workers, threads, gpus)
            found = group.wait(seconds if workers == most else _TRY_SECONDS)
            remove_placement_group(group)
            if found:
                return workers
        return 0

    @contextlib.contextmanager
    def looking(self, workers: int, threads: int, gpus: int) -> Iterator[Callable[[], bool]]:
        """Let a placement group for one more wait; from the first look on, or it would take what the workers need."""
        with contextlib.ExitStack() as stack:

            @functools.cache
            def one_more() -> ray.ObjectRef:
                group = _group(1, threads, gpus)
                stack.callback(remove_placement_group, group)
                return group.ready()

            yield lambda: bool(ray.wait([one_more()], timeout=_TRY_SECONDS)[0])

    def start(self, member: Member, workers: int, threads: int, gpus: int) -> _Job:
        """Start a task for each worker, each on a host of its own if there are as many."""
        each = _each(threads, gpus)
        fitting = [
            node
            for node in ray.nodes()
            if node["Alive"] and all(node["Resources"].get(kind, 0) >= least for kind, least in each.items())
        ]
        group = _group(workers, threads, gpus, "STRICT_SPREAD" if len(fitting) >= workers else "SPREAD")
        if len(fitting) >= workers and not group.wait(_SPREAD_SECONDS):
            # A host that was lost counts as alive for some seconds.
            remove_placement_group(group)
            group = _group(workers, threads, gpus)
        return _Job(member, group, workers, threads, gpus)


def _each(threads: int, gpus: int) -> dict[str, float]:
    return {"CPU": threads, **({"GPU": gpus} if gpus else {})}


def _group(workers: int, threads: int, gpus: int, strategy: str = "SPREAD") -> PlacementGroup:
    return placement_group([_each(threads, gpus)] * workers, strategy=strategy)


class _Job:
    def __init__(self, member: Member, group: object, workers: int, threads: int, gpus: int):
        self._group = group
        task = ray.remote(_task)
        self._tasks = [
            task.options(
                name=f"masslib worker {rank}",
                num_cpus=threads,
                num_gpus=gpus,
                max_retries=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank),
            ).remote(member, rank)
            for rank in range(workers)
        ]

    def problem(self) -> str | None:
        """The error of the first task that Ray could not run to its end."""
        ended, _ = ray.wait(self._tasks, num_returns=len(self._tasks), timeout=0)
        for task in ended:
            try:
                ray.get(task)
            except Exception as error:  # of Ray or of the task: what it says goes into the message
                return str(error)
        return None

    def results(self) -> list[bytes | None]:
        """What the tasks have returned, by rank."""
        return ray.get(self._tasks)

    def stop(self) -> None:
        """Cancel what still runs, and give the resources back."""
        _, running = ray.wait(self._tasks, num_returns=len(self._tasks), timeout=_STOP_SECONDS)
        for task in running:  # without its hub a task ends by itself; this one was never started, or hangs
            ray.cancel(task, force=True)
        remove_placement_group(self._group)


def _task(member: Member, rank: int) -> bytes | None:
    return member(rank, ",".join(map(str, ray.get_gpu_ids())))
