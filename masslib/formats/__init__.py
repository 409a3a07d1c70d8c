"""What lies in an exported file, read without running it and without TensorFlow."""

from masslib.formats._flops import flops, nonzero
from masslib.formats._inspect import Inspection, inspect
from masslib.formats.tflite import sparsity, weights

__all__ = ["Inspection", "flops", "inspect", "nonzero", "sparsity", "weights"]
