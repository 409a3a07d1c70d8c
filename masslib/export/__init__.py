"""Files that other programs read, each checked against the model it came from."""

from masslib.export.bundle import package, verify
from masslib.export.inspection import Inspection, inspect
from masslib.export.litert import tflite
from masslib.export.onnx_graph import onnx
from masslib.export.openvino_ir import openvino
from masslib.export.parity import agreement
from masslib.export.savedmodel import saved_model
from masslib.export.selection import Fastest, fastest
from masslib.runtime import Predictor, load

__all__ = [
    "Fastest",
    "Inspection",
    "Predictor",
    "agreement",
    "fastest",
    "inspect",
    "load",
    "onnx",
    "openvino",
    "package",
    "saved_model",
    "tflite",
    "verify",
]
