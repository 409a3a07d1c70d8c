"""Addresses of the service: who may ask, which protocol answers, and how errors look."""

from __future__ import annotations

import asyncio
import hmac
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from masslib.serving import feedback, logs, metrics, openapi, page, tensors
from masslib.serving.messages import HTTPError, Request, Response
from masslib.serving.protocols import photos, tfserving, v2
from masslib.serving.registry import Model, Version
from masslib.serving.service import Service

# Answered to everybody: probes, and the page, which asks for the token itself.
_OPEN = {"/", "/v2/health/live", "/v2/health/ready", "/healthz", "/favicon.ico"}
_LOOPBACK = {b"localhost", b"127.0.0.1", b"[::1]"}
Found = Response | Awaitable[Response]


class App:
    """Answers requests.

    Args:
        service: What stands behind the protocols.
        tokens: Tokens that are let in; none lets everybody in.
        loopback: Whether only names of this machine are accepted as `Host`, so that no web page reaches the service by
            a name of its own that leads here (DNS rebinding).
    """

    def __init__(self, service: Service, tokens: tuple[bytes, ...] = (), *, loopback: bool = False):
        self._service, self._tokens, self._loopback = service, tokens, loopback
        self._access_log = service.settings.access_log
        self._exact: dict[str, tuple[str, Callable[[Request], Found]]] = {
            "/": ("GET", lambda request: page.html()),
            "/classify": ("POST", lambda request: photos.classify(service, request)),
            "/feedback": ("POST", lambda request: feedback.take(service, request)),
            "/status": ("GET", lambda request: self._in_thread(lambda: tensors.reply(service.status()))),
            "/metrics": ("GET", lambda request: self._in_thread(self._metrics)),
            "/openapi.json": ("GET", lambda request: tensors.reply(openapi.document(service.registry))),
            "/healthz": ("GET", lambda request: tensors.reply({"live": True})),
            "/favicon.ico": ("GET", lambda request: Response(status=204, content_type="image/x-icon")),
            "/v2": ("GET", lambda request: v2.server(service)),
            "/v2/health/live": ("GET", lambda request: tensors.reply({"live": True})),
            "/v2/health/ready": ("GET", lambda request: self._ready(service.ready)),
            "/v2/repository/index": ("POST", lambda request: v2.index(service)),
        }

    async def handle(self, request: Request) -> Response:
        """Answer one request; never raises but when it is cancelled."""
        start = time.perf_counter()
        protocol = request.path[1:].partition("/")[0]
        try:
            self._check(request)
            method, answer = self._route(request)
            if request.method != method and not (method == "GET" and request.method == "HEAD"):
                raise HTTPError(405, f"only {method} is answered here", allow=method)
            found = answer(request)
            response = found if isinstance(found, Response) else await found
        except HTTPError as error:
            response = self.refuse(error, request)
        except asyncio.CancelledError:
            metrics.failed("disconnected")
            raise
        except Exception as error:
            metrics.failed("internal")
            logs.event(
                "error", level="error", request_id=request.id, path=request.path[:256], error=repr(error)[:500],
                traceback=traceback.format_exc()[-4000:],
            )  # fmt: skip
            response = tensors.reply({"error": "the service failed; its log says why", "request_id": request.id}, 500)
        took = time.perf_counter() - start
        metrics.answered(protocol if protocol in _PROTOCOLS else "other", response.status)
        if self._access_log:
            logs.event(
                "request", request_id=request.id, method=request.method, path=request.path[:256],
                status=response.status, ms=round(took * 1000, 3), bytes=len(request.body),
            )  # fmt: skip
        return response

    def refuse(self, error: HTTPError, request: Request | None = None) -> Response:
        """The response of an error that is the client's, or of a full queue."""
        metrics.failed(_KINDS.get(error.status, "refused"))
        told: dict[str, Any] = {"error": error.message}
        if request is not None:
            told["request_id"] = request.id
        return tensors.reply(told, error.status, **error.headers)

    def _check(self, request: Request) -> None:
        if self._loopback:
            host = request.headers.get(b"host", b"localhost").lower()
            name = host.rpartition(b":")[0] if not host.endswith(b"]") and b":" in host else host
            if name not in _LOOPBACK:
                raise HTTPError(421, "this service is asked by a name that is not its own; start it with --host")
        if self._tokens and request.path not in _OPEN:
            kind, _, token = request.headers.get(b"authorization", b"").partition(b" ")
            same = [hmac.compare_digest(token.strip(), known) for known in self._tokens]
            if kind.lower() != b"bearer" or not any(same):
                raise HTTPError(401, "a bearer token is needed", **{"www-authenticate": "Bearer"})

    def _route(self, request: Request) -> tuple[str, Callable[[Request], Found]]:
        if (found := self._exact.get(request.path)) is not None:
            return found
        root, _, rest = request.path[1:].partition("/models/")
        name, *parts = rest.split("/")
        if root == "v2" and name:
            return self._v2(name, parts)
        if root == "v1" and name:
            return self._v1(name, parts)
        if request.path.startswith("/models/"):
            name, *parts = request.path.removeprefix("/models/").split("/")
            return "GET", lambda request: self._shown(request, name, parts)
        raise HTTPError(404, "there is nothing at this address; /openapi.json tells what there is")

    def _v2(self, name: str, parts: list[str]) -> tuple[str, Callable[[Request], Found]]:
        model, service = self._service.registry.model(name), self._service
        number = None
        if len(parts) >= 2 and parts[0] == "versions":
            number, parts = parts[1], parts[2:]
        if parts == ["infer"]:
            return "POST", lambda request: v2.infer(service, request, model, model.choose(number))
        if parts == ["ready"]:
            return "GET", lambda request: self._ready(bool(model.choose(number)))
        if not parts:
            return "GET", lambda request: v2.metadata(model, model.choose(number))
        raise HTTPError(404, "there is nothing at this address; /openapi.json tells what there is")

    def _v1(self, name: str, parts: list[str]) -> tuple[str, Callable[[Request], Found]]:
        *before, last = [name, *parts]
        last, _, verb = last.partition(":")
        name, *parts = [*before, last]
        known = self._service.registry.models.get(name)
        # A model of which no version passed the check still tells why.
        model = known if known is not None and not parts and not verb else self._service.registry.model(name)
        service, number, label = self._service, None, None
        if len(parts) >= 2 and parts[0] in ("versions", "labels"):
            number, label = (parts[1], None) if parts[0] == "versions" else (None, parts[1])
            parts = parts[2:]
        if not parts and verb == "predict":
            return "POST", lambda request: tfserving.predict(service, request, model, model.choose(number, label))
        if not parts and verb == "classify":
            return "POST", lambda request: tfserving.classify(service, request, model, model.choose(number, label))
        if parts == ["metadata"] and not verb:
            return "GET", lambda request: tfserving.metadata(model.choose(number, label))
        if not parts and not verb:
            return "GET", lambda request: self._v1_status(model, number, label)
        raise HTTPError(404, "there is nothing at this address; /openapi.json tells what there is")

    @staticmethod
    def _v1_status(model: Model, number: str | None, label: str | None) -> Response:
        if number is None and label is None:
            return tfserving.status(model, None)
        return tfserving.status(model, model.choose(number, label).loaded.version)

    def _shown(self, request: Request, name: str, parts: list[str]) -> Response:
        """The card and the examples of a version, for the page."""
        options = request.parameters()
        version: Version = self._service.registry.model(name).choose(options.get("version"), options.get("label"))
        if parts == ["card"]:
            return Response(version.loaded.card.encode(), "text/markdown; charset=utf-8")
        examples = {("examples", str(k)): picture for k, picture in enumerate(version.loaded.examples)}
        if tuple(parts) in examples:
            return Response(examples[tuple(parts)], "image/png")
        raise HTTPError(404, "there is nothing at this address; /openapi.json tells what there is")

    @staticmethod
    def _ready(ready: bool) -> Response:
        return tensors.reply({"ready": ready}, 200 if ready else 503)

    async def _in_thread(self, make: Callable[[], Response]) -> Response:
        """What takes milliseconds must not keep the answers of models waiting."""
        return await asyncio.get_running_loop().run_in_executor(None, make)

    def _metrics(self) -> Response:
        registry = self._service.registry
        for model in registry.models.values():
            for number, version in model.versions.items():
                names = ",".join(sorted(label for label, own in model.labels.items() if own == number))
                drift = version.drift.distances() if version.drift is not None else {}
                version.metrics.show(version.waiting, drift, names)
        body, kind = metrics.text(registry.restarts)
        return Response(body, kind)


_PROTOCOLS = {"v1", "v2", "classify", "feedback", "status", "metrics", "models"}
_KINDS = {400: "bad request", 401: "unauthorized", 404: "not found", 408: "slow client", 413: "too large", 503: "busy"}
