"""Categories as vectors of zeros and ones, computed by operations that every format has."""

from __future__ import annotations

from typing import Any

import keras

from masslib.graph.nodes import named_layers
from masslib.graph.rebuilding import rebuilt


def plainly_encoded(model: keras.Model) -> keras.Model:
    """Return a model as it is, or an uncompiled copy in which categories are encoded by comparisons.

    Keras counts categories by DenseBincount, which TFLite lacks, and marks them by OneHot, of which the converter gets
    the range of an int8 file wrong: its zeros and ones were other numbers in the file. Models of tf_keras are returned
    as they are, and so are layers whose answer is sparse.
    """
    if not isinstance(model, keras.Model) or not any(map(_is_encoding, named_layers(model).values())):
        return model
    return rebuilt(model, lambda layer, _: _exchanged(layer))


def _is_encoding(layer: Any) -> bool:
    kinds = keras.layers.CategoryEncoding | keras.layers.Discretization
    return isinstance(layer, kinds) and layer.output_mode != "int" and not layer.sparse


def _exchanged(layer: keras.layers.Layer) -> Any:
    if not _is_encoding(layer):
        return None
    if isinstance(layer, keras.layers.CategoryEncoding):
        return [(Encoding(layer.num_tokens, layer.output_mode, name=layer.name, dtype=layer.dtype_policy), None)]
    numbers = layer.get_config() | {"output_mode": "int", "name": f"{layer.name}_number", "dtype": "int32"}
    encoding = Encoding(len(layer.bin_boundaries) + 1, layer.output_mode, name=layer.name)
    return [(type(layer).from_config(numbers), None), (encoding, None)]


@keras.saving.register_keras_serializable(package="masslib")
class Encoding(keras.layers.Layer):
    """What `keras.layers.CategoryEncoding` answers, without its operators.

    Args:
        num_tokens: Number of categories.
        output_mode: "one_hot", "multi_hot" or "count".
    """

    def __init__(self, num_tokens: int, output_mode: str, **options: Any):
        super().__init__(**options)
        self.num_tokens, self.output_mode = num_tokens, output_mode

    def call(self, inputs: Any, count_weights: Any = None) -> Any:
        """Encode categories `(n, k)` as `(n, num_tokens)`, or `(n, ..., k)` one by one."""
        axis = 1 if len(inputs.shape) > 1 else 0
        if self.output_mode == "one_hot" and axis and inputs.shape[-1] == 1:
            inputs = keras.ops.squeeze(inputs, -1)
        categories = keras.ops.expand_dims(keras.ops.cast(inputs, "int32"), -1)
        zero, one = (keras.ops.cast(value, self.compute_dtype) for value in (0, 1))
        marks = keras.ops.where(keras.ops.equal(categories, keras.ops.arange(self.num_tokens)), one, zero)
        if self.output_mode == "one_hot":
            return marks
        if self.output_mode == "multi_hot":
            return keras.ops.max(marks, axis=axis)
        if count_weights is not None:
            marks = marks * keras.ops.expand_dims(keras.ops.cast(count_weights, marks.dtype), -1)
        return keras.ops.sum(marks, axis=axis)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of `__init__`."""
        return super().get_config() | {"num_tokens": self.num_tokens, "output_mode": self.output_mode}
