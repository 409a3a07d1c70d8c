"""Progress bars, in a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def bar(items: Iterable | None = None, *, title: str, unit: str, visible: bool, total: int | None = None) -> Any:
    """Return a tqdm bar over `items`, or one to be updated by hand.

    A bar that is visible still obeys the environment variable TQDM_DISABLE, which an explicit `disable=False`
    would overrule.
    """
    from tqdm.auto import tqdm

    hidden = {} if visible else {"disable": True}
    return tqdm(items, desc=title, unit=unit, total=total, **hidden)
