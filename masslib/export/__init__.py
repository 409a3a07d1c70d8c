"""Files that other programs read, each checked against the model it came from.

Names are imported when they are first used, so that a program that only loads a file does not wait for the writers.
"""

from masslib._util import lazy

_NAMES = {
    "Inspection": "masslib.formats",
    "Predictor": "masslib.runtime",
    "inspect": "masslib.formats",
    "load": "masslib.runtime",
    "onnx": "masslib.export._onnx",
    "openvino": "masslib.export._openvino",
    "saved_model": "masslib.export._saved_model",
    "tflite": "masslib.export._tflite",
}

__all__ = list(_NAMES)
__getattr__, __dir__ = lazy.attach(__name__, _NAMES)
