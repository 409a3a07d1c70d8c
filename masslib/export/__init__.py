"""Files that other programs read, each checked against the model it came from."""

from masslib.export.litert import tflite
from masslib.export.parity import agreement
from masslib.export.savedmodel import saved_model
from masslib.runtime import Predictor, load

__all__ = ["Predictor", "agreement", "load", "saved_model", "tflite"]
