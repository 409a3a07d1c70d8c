"""Several models that answer as one: networks, files, and estimators of scikit-learn's kind.

Names are imported when they are first used: an ensemble of files needs no TensorFlow.
"""

from masslib._util import attach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masslib.ensemble._ensemble import Ensemble as Ensemble

_NAMES = {"Ensemble": "masslib.ensemble._ensemble"}

__all__ = list(_NAMES)
if not TYPE_CHECKING:
    __getattr__, __dir__ = attach(__name__, _NAMES)
