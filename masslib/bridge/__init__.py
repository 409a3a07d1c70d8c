"""From Keras 3 to tf_keras and back.

TFMOT only understands tf_keras (Keras 2) models, and no file format or config leads from one Keras to the
other. The bridge replays the graph of a Keras 3 model with tf_keras layers of the same names and settings,
copies the weights, and proves the result by running both.
"""

from masslib.bridge.carried import carry
from masslib.bridge.compiled import compile_like
from masslib.bridge.diagnosis import diagnose
from masslib.bridge.equality import TOLERANCE
from masslib.bridge.graph import from_tf_keras, to_tf_keras

__all__ = ["TOLERANCE", "carry", "compile_like", "diagnose", "from_tf_keras", "to_tf_keras"]
