"""Judges: which recipe, which format, which layer, by measurement.

They stand above everything that they judge. Names are imported when they are first used.
"""

from masslib._util import attach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masslib.selection._agreement import agreement as agreement
    from masslib.selection._compare import Comparison as Comparison
    from masslib.selection._compare import compare as compare
    from masslib.selection._fastest import Fastest as Fastest
    from masslib.selection._fastest import fastest as fastest
    from masslib.selection._search import search as search
    from masslib.selection._sensitivity import Sensitivity as Sensitivity
    from masslib.selection._sensitivity import sensitivity as sensitivity
    from masslib.selection.metric import Metric as Metric
    from masslib.selection.search_result import Search as Search

_NAMES = {
    "Comparison": "masslib.selection._compare",
    "Fastest": "masslib.selection._fastest",
    "Metric": "masslib.selection.metric",
    "Search": "masslib.selection.search_result",
    "Sensitivity": "masslib.selection._sensitivity",
    "agreement": "masslib.selection._agreement",
    "compare": "masslib.selection._compare",
    "fastest": "masslib.selection._fastest",
    "search": "masslib.selection._search",
    "sensitivity": "masslib.selection._sensitivity",
}

__all__ = list(_NAMES)
if not TYPE_CHECKING:
    __getattr__, __dir__ = attach(__name__, _NAMES)
