"""Workers in the tasks of a Ray placement group, which has room for all of them or is not made.

Source: https://docs.ray.io/en/latest/ray-core/scheduling/placement-group.html
"""

from __future__ import annotations

from masslib._util.extras import needed_by
from masslib.launcher.engines import Member

with needed_by("launch(on='ray')"):
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

_STOP_SECONDS = 10.0


class Ray:
    """A Ray cluster: the one that this process is connected to, else that of an address, else a new local one."""

    name = "Ray"

    def __init__(self, address: str | None = None):
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False, include_dashboard=None)
        self.host = ray.util.get_node_ip_address()

    def threads(self, workers: int, threads: int | None) -> int:
        """The CPUs of the cluster shared out, unless told otherwise."""
        return threads or max(1, int(ray.cluster_resources().get("CPU", 1)) // workers)

    def start(self, member: Member, workers: int, threads: int, gpus: int) -> _Job:
        """Start a task for each worker, each on a host of its own if there are as many."""
        each = {"CPU": threads, **({"GPU": gpus} if gpus else {})}
        fitting = [
            node
            for node in ray.nodes()
            if node["Alive"] and all(node["Resources"].get(kind, 0) >= least for kind, least in each.items())
        ]
        group = placement_group([each] * workers, strategy="STRICT_SPREAD" if len(fitting) >= workers else "SPREAD")
        return _Job(member, group, workers, threads, gpus)


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
