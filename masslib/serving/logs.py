"""The log of the service: one JSON object per line on standard error."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import orjson


def event(name: str, *, level: str = "info", **facts: Any) -> None:
    """Write one line: time, level, event, process, and the facts, such as `request_id`.

    Example:
        >>> import contextlib, io
        >>> with contextlib.redirect_stderr(io.StringIO()) as stream:
        ...     event("loaded", model="digits", version=3)
        >>> orjson.loads(stream.getvalue())["model"]
        'digits'
    """
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
    line = {"time": stamp, "level": level, "event": name, "pid": os.getpid(), **facts}
    sys.stderr.write(orjson.dumps(line, default=str, option=orjson.OPT_SERIALIZE_NUMPY).decode() + "\n")
    sys.stderr.flush()
