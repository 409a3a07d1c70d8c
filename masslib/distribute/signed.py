"""Messages between processes that share a secret: lines of JSON that nobody else can write."""

from __future__ import annotations

import hmac
import json
from typing import Any


def signed(secret: str, challenge: bytes, message: Any) -> bytes:
    """Write a message as a line that only who knows the secret can write, and for one connection only.

    Args:
        secret: What the processes know each other by.
        challenge: Random bytes that the listening end has sent over this connection.
        message: What JSON can hold.

    Example:
        >>> verified("secret", b"123", signed("secret", b"123", {"rank": 1}))
        {'rank': 1}
    """
    body = json.dumps(message).encode()
    return _code(secret, challenge, body) + b" " + body + b"\n"


def verified(secret: str, challenge: bytes, line: bytes) -> Any:
    """Return the message in a line.

    Raises:
        ValueError: If it is not whole, or its writer does not know the secret.
    """
    code, _, body = line.removesuffix(b"\n").partition(b" ")
    if not line.endswith(b"\n") or not hmac.compare_digest(code, _code(secret, challenge, body)):
        raise ValueError("not a message of this cluster")
    return json.loads(body)


def _code(secret: str, challenge: bytes, body: bytes) -> bytes:
    return hmac.digest(secret.encode(), challenge + body, "sha256").hex().encode()
