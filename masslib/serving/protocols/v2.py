"""The Open Inference Protocol, version 2, JSON and binary tensors: https://github.com/kserve/open-inference-protocol."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import masslib
from masslib.serving import tensors
from masslib.serving.loaded import Tensor
from masslib.serving.messages import HTTPError, Request, Response
from masslib.serving.registry import Model, Version
from masslib.serving.service import Result, Service

_LENGTH = b"inference-header-content-length"
_EXTENSIONS = ["binary_tensor_data", "model_repository"]


def server(service: Service) -> Response:
    """`GET /v2`"""
    return tensors.reply({"name": "masslib", "version": masslib.__version__, "extensions": _EXTENSIONS})


def index(service: Service) -> Response:
    """`POST /v2/repository/index`"""
    return tensors.reply([
        {"name": name, "version": str(number), "state": state, "reason": reason}
        for name, model in sorted(service.registry.models.items())
        for number, state, reason in [
            *((number, "READY", "") for number in sorted(model.versions)),
            *((number, "UNAVAILABLE", why) for number, why in sorted(model.refused.items())),
        ]
    ])  # fmt: skip


def metadata(model: Model, version: Version) -> Response:
    """`GET /v2/models/NAME[/versions/V]`"""
    loaded = version.loaded
    told = {
        "name": loaded.name,
        "versions": [str(number) for number in sorted(model.versions)],
        "platform": f"masslib_{loaded.file}",
        **_ends(version),
    }
    if loaded.others:
        told["signatures"] = {name: _ends(it) for name, it in version.signatures.items()}
    return tensors.reply(told)


def _ends(version: Version) -> dict[str, Any]:
    inputs, outputs = version.loaded.inputs, version.loaded.outputs
    return {"inputs": [_described(it) for it in inputs], "outputs": [_described(it) for it in outputs]}


def _described(tensor: Tensor) -> dict[str, Any]:
    shape = [-1, *(-1 if size is None else size for size in tensor.shape)]
    return {"name": tensor.name, "datatype": tensors.NAMES[tensor.dtype], "shape": shape}


async def infer(service: Service, request: Request, model: Model, version: Version) -> Response:
    """`POST /v2/models/NAME[/versions/V]/infer`"""
    asked, rest = _split(request)
    version = version.signature(_parameters(asked).get("signature"))
    arrays, used = _inputs(asked, rest)
    if used != len(rest):
        raise HTTPError(400, f"{len(rest) - used} bytes after the last binary tensor belong to none")
    wanted = _wanted(asked, version)
    inputs, rows = tensors.checked(arrays, version.loaded.inputs)
    result = await service.predict(request, model, version, inputs, rows, timeout=_timeout(asked))
    return _response(asked, result, wanted)


def _split(request: Request) -> tuple[dict[str, Any], bytes]:
    """The JSON part and the binary one."""
    told = request.headers.get(_LENGTH)
    if told is None:
        return tensors.parse(request.body), b""
    if not told.isdigit() or len(told) > 12 or int(told) > len(request.body):
        raise HTTPError(400, "Inference-Header-Content-Length is no number of bytes of the body")
    length = int(told)
    return tensors.parse(request.body[:length]), memoryview(request.body)[length:]  # type: ignore[return-value]


def _inputs(asked: dict[str, Any], rest: bytes) -> tuple[dict[str, np.ndarray], int]:
    entries = asked.get("inputs")
    if not isinstance(entries, list) or not entries:
        raise HTTPError(400, "expected `inputs`, a list of tensors")
    arrays: dict[str, np.ndarray] = {}
    at = 0
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise HTTPError(400, "every tensor needs a `name`")
        name = entry["name"]
        what = f"input {name[:64]!r}"
        if name in arrays:
            raise HTTPError(400, f"{what} is there twice")
        shape, dtype = _shape(entry.get("shape"), what), _dtype(entry.get("datatype"), what)
        parameters = entry.get("parameters") or {}
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            if "data" not in entry:
                raise HTTPError(400, f"{what} has no `data`")
            array = tensors.array(entry["data"], what)
            if dtype.kind in "iub" and array.dtype.kind == "f":
                raise HTTPError(400, f"{what} says {entry['datatype']} and holds fractions")
        else:
            expected = math.prod(shape) * dtype.itemsize
            if isinstance(size, bool) or not isinstance(size, int) or size != expected or at + size > len(rest):
                raise HTTPError(400, f"{what} needs {expected} bytes of binary data")
            array = np.frombuffer(rest[at : at + size], dtype)
            at += size
        if array.size != math.prod(shape):
            raise HTTPError(400, f"{what} has {array.size} values and the shape {list(shape)}")
        arrays[name] = array.reshape(shape)
    return arrays, at


def _shape(shape: Any, what: str) -> tuple[int, ...]:
    fits = isinstance(shape, list) and 0 < len(shape) <= 16 and all(type(size) is int for size in shape)
    if not fits or min(shape) < 0 or max(shape) > 2**31:
        raise HTTPError(400, f"{what} has no `shape` of whole numbers")
    return tuple(shape)


def _dtype(name: Any, what: str) -> np.dtype:
    if not isinstance(name, str) or name not in tensors.DATATYPES:
        raise HTTPError(400, f"{what} has no `datatype` of {', '.join(tensors.DATATYPES)}")
    return tensors.DATATYPES[name]


def _parameters(asked: dict[str, Any]) -> dict[str, Any]:
    """Of the request; `signature` is ours, the others are Triton's."""
    parameters = asked.get("parameters")
    return parameters if isinstance(parameters, dict) else {}


def _timeout(asked: dict[str, Any]) -> float | None:
    """Triton's parameter, in microseconds."""
    value = _parameters(asked).get("timeout")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise HTTPError(400, "the parameter `timeout` is no number of microseconds")
    return value / 1e6


def _wanted(asked: dict[str, Any], version: Version) -> dict[str, bool]:
    """Output -> whether it is answered in binary."""
    binary = bool(_parameters(asked).get("binary_data_output"))
    names = [tensor.name for tensor in version.loaded.outputs]
    entries = asked.get("outputs")
    if not entries:
        return dict.fromkeys(names, binary)
    wanted = {}
    for entry in entries if isinstance(entries, list) else [None]:
        name = entry.get("name") if isinstance(entry, dict) else None
        if name not in names:
            raise HTTPError(400, f"`outputs` names some that are not there; there are {', '.join(names)}")
        own = entry.get("parameters") or {}
        wanted[name] = bool(own.get("binary_data", binary)) if isinstance(own, dict) else binary
    return wanted


def _response(asked: dict[str, Any], result: Result, wanted: dict[str, bool]) -> Response:
    outputs, parts = [], []
    for name, binary in wanted.items():
        array = result.answer.outputs[name]
        entry: dict[str, Any] = {"name": name, "datatype": tensors.NAMES[array.dtype], "shape": array.shape}
        if binary:
            parts.append(array.tobytes())
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            entry["data"] = tensors.plain(array).reshape(-1)
        outputs.append(entry)
    loaded = result.version.loaded
    told: dict[str, Any] = {"model_name": loaded.name, "model_version": str(loaded.version), "outputs": outputs}
    if isinstance(asked.get("id"), str):
        told["id"] = asked["id"]
    response = tensors.reply(told)
    if parts:
        response.headers["inference-header-content-length"] = str(len(response.body))
        response.content_type = "application/octet-stream"
        response.body += b"".join(parts)
    return response
