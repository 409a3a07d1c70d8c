"""Files that other programs read, each checked against the model it came from.

Names are imported when they are first used, so that a program that only loads a file does not wait for the writers.
"""

from masslib._util import attach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masslib.export._onnx import onnx as onnx
    from masslib.export._openvino import openvino as openvino
    from masslib.export._packed import packed as packed
    from masslib.export._saved_model import saved_model as saved_model
    from masslib.export._tflite import tflite as tflite
    from masslib.formats import Inspection as Inspection
    from masslib.formats import inspect as inspect
    from masslib.runtime import Predictor as Predictor
    from masslib.runtime import load as load

_NAMES = {
    "Inspection": "masslib.formats",
    "Predictor": "masslib.runtime",
    "inspect": "masslib.formats",
    "load": "masslib.runtime",
    "onnx": "masslib.export._onnx",
    "openvino": "masslib.export._openvino",
    "packed": "masslib.export._packed",
    "saved_model": "masslib.export._saved_model",
    "tflite": "masslib.export._tflite",
}

__all__ = list(_NAMES)
if not TYPE_CHECKING:
    __getattr__, __dir__ = attach(
        __name__, _NAMES, moved=dict.fromkeys(("agreement", "fastest", "package", "verify"), "masslib")
    )
