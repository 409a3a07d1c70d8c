"""Judges: which recipe, which format, which layer, by measurement.

They stand above everything that they judge. Names are imported when they are first used.
"""

from masslib._util import lazy

_NAMES = {
    "Comparison": "masslib.selection._compare",
    "Fastest": "masslib.selection._fastest",
    "Search": "masslib.selection.search_result",
    "Sensitivity": "masslib.selection._sensitivity",
    "agreement": "masslib.selection._agreement",
    "compare": "masslib.selection._compare",
    "fastest": "masslib.selection._fastest",
    "search": "masslib.selection._search",
    "sensitivity": "masslib.selection._sensitivity",
}

__all__ = list(_NAMES)
__getattr__, __dir__ = lazy.attach(__name__, _NAMES)
