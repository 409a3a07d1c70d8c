"""How good a model is: scikit-learn's metrics for anything that predicts."""

from masslib.evaluation.folds import cross_validate
from masslib.evaluation.result import Evaluation
from masslib.evaluation.scores import evaluate

__all__ = ["Evaluation", "cross_validate", "evaluate"]
