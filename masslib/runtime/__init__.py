"""Load and run any exported file; TensorFlow is imported only for the formats that need it."""

from masslib.runtime.loading import load
from masslib.runtime.predictor import Predictor
from masslib.runtime.signature import Tensor

__all__ = ["Predictor", "Tensor", "load"]
