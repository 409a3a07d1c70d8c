import asyncio
import json
from http.client import HTTPConnection

import numpy as np
import pytest
from serving_packages import NAME

import masslib
from masslib.packaging import golden

pytest.importorskip("httptools", reason="the extra serve is not installed")
pytestmark = [pytest.mark.alone, pytest.mark.slow]


def _expected(served):
    package = golden(served / NAME / "1")
    return package.inputs, package.outputs["tflite"]


def test_the_asgi_application_answers_and_limits(served):
    from masslib.serving.asgi import Application
    from masslib.serving.settings import Settings

    x, expected = _expected(served)
    application = Application(Settings(str(served), max_body=100_000))

    async def ask(method: str, path: str, *parts: bytes) -> tuple[int, bytes]:
        waiting, sent = list(parts), []

        async def receive():
            part = waiting.pop(0) if waiting else b""
            return {"type": "http.request", "body": part, "more_body": bool(waiting)}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": []}
        await application(scope, receive, send)
        return sent[0]["status"], sent[1]["body"]

    async def run():
        body = json.dumps({"instances": x.tolist()}).encode()
        status, answer = await ask("POST", f"/v1/models/{NAME}:predict", body[:1000], body[1000:])
        assert status == 200
        np.testing.assert_allclose(json.loads(answer)["predictions"], expected, atol=1e-5)
        assert (await ask("POST", f"/v1/models/{NAME}:predict", *[b" " * 60_000] * 2))[0] == 413
        assert (await ask("HEAD", "/v2"))[1] == b""
        events, told = ["lifespan.startup", "lifespan.shutdown"], []

        async def receive():
            return {"type": events.pop(0)}

        async def send(message):
            told.append(message["type"])

        await application({"type": "lifespan"}, receive, send)
        assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    asyncio.run(run())


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore")  # Ray leaves sockets open and warns of its own settings
def test_ray_serve_answers_on_two_nodes(served):
    ray = pytest.importorskip("ray", reason="ray[serve] is not installed")
    from ray import serve
    from ray.cluster_utils import Cluster

    x, expected = _expected(served)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        cluster.add_node(num_cpus=2)
        ray.init(address=cluster.address)
        serve.start(http_options={"host": "127.0.0.1", "port": 8127})
        serve.run(masslib.serving.ray_app(served, replicas=2), route_prefix="/")
        for _ in range(4):
            connection = HTTPConnection("127.0.0.1", 8127, timeout=60)
            connection.request("POST", f"/v1/models/{NAME}:predict", json.dumps({"instances": x.tolist()}))
            answer = json.loads(connection.getresponse().read())
            connection.close()
            np.testing.assert_allclose(answer["predictions"], expected, atol=1e-5)
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()
