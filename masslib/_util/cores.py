"""How many cores this process may use."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Return on how many cores the system lets this process run; fewer than the machine has where it is pinned."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
