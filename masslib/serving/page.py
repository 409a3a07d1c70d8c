"""The page at `/`: one HTML file, whose scripts and styles are the only ones that a browser may run."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from importlib import resources

from masslib.serving.messages import Response


@functools.cache
def _page() -> tuple[bytes, dict[str, str]]:
    text = resources.files("masslib.serving").joinpath("page.html").read_text(encoding="utf-8")
    scripts, styles = (
        " ".join(_hash(part) for part in re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL))
        for tag in ("script", "style")
    )
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; img-src 'self' blob: data:; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }
    return text.encode(), headers


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def html() -> Response:
    """The page."""
    body, headers = _page()
    return Response(body, "text/html; charset=utf-8", 200, dict(headers))
