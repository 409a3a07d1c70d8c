"""Search for the strongest recipe that keeps the accuracy."""

from masslib.compression.searching.loop import search
from masslib.compression.searching.result import Search

__all__ = ["Search", "search"]
