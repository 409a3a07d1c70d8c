"""Requests and responses, whoever carries them."""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")
_prefix, _numbers = os.urandom(6).hex(), itertools.count()


class HTTPError(Exception):
    """What ends a request: a status, and a sentence for the client."""

    def __init__(self, status: int, message: str, **headers: str):
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers


@dataclass(slots=True)
class Request:
    """One request, whole.

    Attributes:
        method: In capitals.
        path: Decoded.
        query: Undecoded.
        headers: Names in lower case; of several alike the last.
        received: When it was whole, by the clock of the loop.
    """

    method: str
    path: str
    query: bytes
    headers: dict[bytes, bytes]
    body: bytes
    received: float
    id: str = ""

    def __post_init__(self) -> None:
        own = self.headers.get(b"x-request-id")
        self.id = own.decode() if own and _ID.fullmatch(own) else f"{_prefix}-{next(_numbers):x}"

    def parameters(self) -> dict[str, str]:
        """The query, decoded."""
        if not self.query:
            return {}
        try:
            return dict(parse_qsl(self.query.decode("ascii"), errors="strict", max_num_fields=32))
        except ValueError:
            raise HTTPError(400, "the query is not encoded as it should be") from None


@dataclass(slots=True)
class Response:
    """What is sent back."""

    body: bytes = b""
    content_type: str = "application/json"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
