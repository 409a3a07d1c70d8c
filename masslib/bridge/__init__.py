"""From Keras 3 to tf_keras and back.

TFMOT only understands tf_keras (Keras 2) models, and no file format or config leads from one Keras to the
other. The bridge replays the graph of a Keras 3 model with tf_keras layers of the same names and settings,
copies the weights, and proves the result by running both.
"""

from masslib._util.extras import needed_by

with needed_by(__name__):
    from masslib.bridge.carried import carry
    from masslib.bridge.compiled import compile_like, like_outputs
    from masslib.bridge.conversion import from_tf_keras, to_tf_keras
    from masslib.bridge.equality import TOLERANCE

__all__ = ["TOLERANCE", "carry", "compile_like", "from_tf_keras", "like_outputs", "to_tf_keras"]
