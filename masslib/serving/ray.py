"""`ray_app`: the service as an application of Ray Serve, for more machines than one."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from masslib._util.extras import needed_by
from masslib.serving.asgi import Application
from masslib.serving.messages import Request
from masslib.serving.settings import Settings, loads


def ray_app(
    folder: str | os.PathLike[str],
    *,
    replicas: int | tuple[int, int] = 1,
    cpus: float = 1,
    name: str = "masslib",
    **options: Any,
) -> Any:
    """Make an application of Ray Serve that answers for the packages in a folder.

    Every replica checks, loads and watches the folder by itself, so all nodes must see it at the same path. It speaks
    the protocols of `python -m masslib serve`; what is counted and compared, such as drift, is counted per replica.

    Args:
        folder: `folder/name/version/` are packages of `masslib.package`.
        replicas: How many, or the least and the most of them, between which Ray scales by the number of requests.
        cpus: Cores of a replica.
        name: Of the deployment.
        **options: As for `masslib.serve`: `max_batch`, `queue`, `prefer`, `token_file` and so on.

    Returns:
        An application, for `ray.serve.run(application, route_prefix="/")`.

    Raises:
        ModuleNotFoundError: If Ray is not installed.
        ValueError: If an option is wrong.

    Example:
        >>> from ray import serve  # doctest: +SKIP
        >>> serve.run(masslib.serving.ray_app("build/models", replicas=2))  # doctest: +SKIP
    """
    with needed_by("masslib.serving.ray_app"):
        from ray import serve

    settings = Settings(str(Path(folder).absolute()), **options).checked()
    if isinstance(replicas, tuple):
        least, most = replicas
        scale: dict[str, Any] = {"autoscaling_config": {"min_replicas": least, "max_replicas": most}}
    else:
        scale = {"num_replicas": replicas}
    deployment = serve.deployment(name=name, ray_actor_options={"num_cpus": cpus}, **scale)
    return deployment(Replica).bind(settings.dumps())


class Replica:
    """What runs in an actor of Ray.

    Args:
        told: Settings as JSON.
    """

    def __init__(self, told: str):
        self._application, self._started = Application(loads(told)), asyncio.Lock()

    async def __call__(self, request: Any) -> Any:
        """Answer a request of Starlette, with a response of it."""
        from starlette.responses import Response  # comes with Ray Serve

        await self._start()
        own = Request(
            request.method,
            request.scope["path"],
            request.scope["query_string"],
            {name.lower(): value for name, value in request.headers.raw},
            b"",
            time.monotonic(),
        )
        parts = [part async for part in request.stream()]
        own.body = b"".join(parts)
        answer = await self._application.answer(own)
        headers = {"content-type": answer.content_type, "x-request-id": own.id, **answer.headers}
        return Response(answer.body, answer.status, headers)

    async def check_health(self) -> None:
        """Asked by Ray: a replica that cannot load its models is started again."""
        await self._start()

    async def _start(self) -> None:
        async with self._started:
            await self._application.start()
