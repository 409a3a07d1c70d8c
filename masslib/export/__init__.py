"""Files that other programs read, each checked against the model it came from."""

from masslib.export.litert import tflite
from masslib.export.savedmodel import saved_model
from masslib.runtime import Predictor, load

__all__ = ["Predictor", "load", "saved_model", "tflite"]
