"""Load and run any exported file; TensorFlow is imported only for the formats that need it."""

from masslib.runtime.loading import load
from masslib.runtime.predictor import Predictor

__all__ = ["Predictor", "load"]
