"""How good a model is: scikit-learn's metrics for anything that predicts.

Names are imported when they are first used: `evaluate` needs no TensorFlow, `cross_validate` does.
"""

from masslib._util import lazy

_NAMES = {
    "Evaluation": "masslib.evaluation.result",
    "cross_validate": "masslib.evaluation.folds",
    "evaluate": "masslib.evaluation.scores",
}

__all__ = list(_NAMES)
__getattr__, __dir__ = lazy.attach(__name__, _NAMES)
