"""`POST /classify`: a photo, as bytes or in a form, to labels with probabilities."""

from __future__ import annotations

from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from masslib.serving import tensors
from masslib.serving.messages import HTTPError, Request, Response
from masslib.serving.service import Service

_TOP = 5


async def classify(service: Service, request: Request) -> Response:
    """Labels with probabilities, best first, and what answered."""
    options = request.parameters()
    if unknown := options.keys() - {"model", "version", "label", "top"}:
        raise HTTPError(400, f"unknown in the query: {', '.join(sorted(unknown))[:200]}")
    top = options.get("top", str(_TOP))
    if not top.isdecimal() or not top.isascii() or len(top) > 6 or int(top) < 1:
        raise HTTPError(400, "top has to be a whole number of at least 1")
    model = service.registry.model(options.get("model"))
    version = model.choose(options.get("version"), options.get("label"))
    data = _photo(request)
    row, decode = await service.photo(version, data)
    loaded = version.loaded
    inputs = {loaded.inputs[0].name: row}
    result = await service.predict(request, model, version, inputs, 1, photo=data, decode=decode)
    scores = result.first.reshape(-1)
    best = (-scores).argsort(kind="stable")[: int(top)]
    labels: Any = loaded.labels or range(len(scores))
    answer = result.answer
    return tensors.reply({
        "model": loaded.name,
        "version": loaded.version,
        "request_id": request.id,
        "labels": [{"label": str(labels[k]), "probability": float(scores[k])} for k in best.tolist()],
        "milliseconds": {
            "decode": round(decode * 1000, 3),
            "queue": round(answer.queue * 1000, 3),
            "predict": round(answer.predict * 1000, 3),
        },
        "batch": answer.batch,
    })  # fmt: skip


def _photo(request: Request) -> bytes:
    """The photo in the body."""
    told = request.headers.get(b"content-type", b"")
    kind = told.partition(b";")[0].strip().lower()
    if kind == b"multipart/form-data":
        return _first_file(request.body, parse_options_header(told)[1].get(b"boundary", b""))
    if (
        kind
        and not kind.startswith(b"image/")
        and kind not in (b"application/octet-stream", b"application/x-www-form-urlencoded")
    ):
        raise HTTPError(415, "send a photo as image/png, image/jpeg, image/webp, or a form (multipart/form-data)")
    if not request.body:
        raise HTTPError(400, "the body is empty; send a photo")
    return request.body


def _first_file(body: bytes, boundary: bytes) -> bytes:
    """The first file of a form."""
    if not 0 < len(boundary) <= 70:
        raise HTTPError(400, "the form has no boundary")
    found: list[bytearray] = []
    state = {"name": b"", "file": False}

    def header_field(data: bytes, start: int, end: int) -> None:
        state["name"] += data[start:end]

    def header_value(data: bytes, start: int, end: int) -> None:
        if state["name"].lower() == b"content-disposition" and b"filename" in data[start:end]:
            state["file"] = True

    def headers_finished() -> None:
        if state["file"]:
            found.append(bytearray())

    def part_data(data: bytes, start: int, end: int) -> None:
        if state["file"] and len(found) == 1:
            found[0] += data[start:end]

    callbacks = {
        "on_part_begin": lambda: state.update(name=b"", file=False),
        "on_header_field": header_field,
        "on_header_value": header_value,
        "on_header_end": lambda: state.update(name=b""),
        "on_headers_finished": headers_finished,
        "on_part_data": part_data,
    }
    try:
        parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise HTTPError(400, "the form is damaged") from None
    if not found or not found[0]:
        raise HTTPError(400, "the form holds no file")
    return bytes(found[0])
