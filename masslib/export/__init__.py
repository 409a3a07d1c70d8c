"""Files that other programs read, each checked against the model it came from.

Names are imported when they are first used, so that a program that only loads a file does not wait for the writers.
"""

from importlib import import_module

_NAMES = {
    "Fastest": "masslib.export.selection",
    "Inspection": "masslib.export.inspection",
    "Predictor": "masslib.runtime",
    "agreement": "masslib.export.parity",
    "fastest": "masslib.export.selection",
    "inspect": "masslib.export.inspection",
    "load": "masslib.runtime",
    "onnx": "masslib.export.onnx_graph",
    "openvino": "masslib.export.openvino_ir",
    "package": "masslib.export.bundle",
    "saved_model": "masslib.export.savedmodel",
    "tflite": "masslib.export.litert",
    "verify": "masslib.export.bundle",
}

__all__ = list(_NAMES)


def __getattr__(name: str):
    if name not in _NAMES:
        raise AttributeError(f"module 'masslib.export' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
