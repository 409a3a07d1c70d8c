"""`POST /feedback`: people say what the label of a recorded answer should have been."""

from __future__ import annotations

from masslib.serving import tensors
from masslib.serving.messages import HTTPError, Request, Response
from masslib.serving.service import Service


async def take(service: Service, request: Request) -> Response:
    """Keep the label for the answer with this id."""
    if service.recorder is None:
        raise HTTPError(409, "answers are not recorded here; start the service with --record")
    # A web page of another origin cannot send this type without asking first.
    if request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
        raise HTTPError(415, "send application/json")
    asked = tensors.parse(request.body)
    known, label = asked.get("request_id"), asked.get("label")
    if not isinstance(known, str) or not isinstance(label, str) or not 0 < len(known) <= 128 or len(label) > 256:
        raise HTTPError(400, "expected `request_id` and `label`, both strings")
    row = await service.recorder.find(known)
    if row is None:
        raise HTTPError(404, f"no answer with the id {known!r} was recorded")
    if row.classes is not None and label not in row.classes:
        raise HTTPError(400, f"{label!r} is no label of {row.model}; there are {', '.join(row.classes)[:500]}")
    await service.recorder.correct(known, label)
    return tensors.reply({"request_id": known, "label": label})
