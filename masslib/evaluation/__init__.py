"""How good a model is: scikit-learn's metrics for anything that predicts.

Names are imported when they are first used: `evaluate` needs no TensorFlow, `cross_validate` does.
"""

from masslib._util import attach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masslib.evaluation.folds import cross_validate as cross_validate
    from masslib.evaluation.intervals import difference as difference
    from masslib.evaluation.result import Evaluation as Evaluation
    from masslib.evaluation.result import Evaluations as Evaluations
    from masslib.evaluation.scores import evaluate as evaluate

_NAMES = {
    "Evaluation": "masslib.evaluation.result",
    "Evaluations": "masslib.evaluation.result",
    "cross_validate": "masslib.evaluation.folds",
    "difference": "masslib.evaluation.intervals",
    "evaluate": "masslib.evaluation.scores",
}

__all__ = list(_NAMES)
if not TYPE_CHECKING:
    __getattr__, __dir__ = attach(__name__, _NAMES)
