"""What a student learns from. All are losses of Keras, so that several replicas share them out as any other loss."""

from __future__ import annotations

from typing import Any

import keras

# Smaller probabilities are as good as zero, of which there is no logarithm.
_LEAST = 1e-30


class SoftTargets(keras.distillation.LogitsDistillation):
    """The divergence of two softened distributions, from the outputs of models that may end in an activation."""

    def __init__(self, activation: str, temperature: float):
        # The name of a loss would be the function, which Keras calls with logits instead of probabilities.
        super().__init__(temperature, keras.losses.KLDivergence())
        self._activation = activation

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        return super().compute_loss(self._logits(teacher_outputs), self._logits(student_outputs), **kwargs)

    def _logits(self, outputs: Any) -> Any:
        if self._activation == "linear":
            return outputs
        if self._activation == "sigmoid":
            outputs = keras.ops.stack([1 - outputs, outputs], axis=-1)
        return keras.ops.log(keras.ops.maximum(outputs, _LEAST))


class Features(keras.distillation.FeatureDistillation):
    """How far a layer of the student is from one of the teacher."""

    def __init__(self, teacher_layer_name: str, student_layer_name: str):
        super().__init__(Alike(), teacher_layer_name, student_layer_name)

    def validate_model_compatibility(self, teacher: keras.Model, student: keras.Model) -> None:
        super().validate_model_compatibility(teacher, student)
        expected = tuple(teacher.get_layer(self.teacher_layer_name).output.shape)
        found = tuple(student.get_layer(self.student_layer_name).output.shape)
        if found != expected and (len(found) < 3 or found[:-1] != expected[:-1]):
            raise ValueError(
                f"layer {self.student_layer_name!r} of the student has the shape {found}, layer "
                f"{self.teacher_layer_name!r} of the model {expected}; only the channels of images may differ"
            )


class Labels(keras.losses.Loss):
    """The loss that the model was compiled with, whatever form it has."""

    def __init__(self, loss: Any):
        super().__init__()
        self._loss = keras.losses.get(loss)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if y_pred.shape[-1] == 1 and len(y_true.shape) < len(y_pred.shape):
            y_true = keras.ops.expand_dims(y_true, -1)
        return getattr(self._loss, "call", self._loss)(y_true, y_pred)


class Alike(keras.losses.Loss):
    """The squared difference of two outputs of the same shape, or of where two images are active."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if y_true.shape[-1] != y_pred.shape[-1]:
            y_true, y_pred = _attention(y_true), _attention(y_pred)
        squares = keras.ops.square(y_true - y_pred)
        return keras.ops.mean(squares, axis=tuple(range(1, len(squares.shape))))


def _attention(features: Any) -> Any:
    """Where images are active: the mean of the squares over the channels, of length 1 per image."""
    places = keras.ops.mean(keras.ops.square(features), axis=-1)
    squares = keras.ops.sum(keras.ops.square(places), axis=tuple(range(1, len(places.shape))), keepdims=True)
    return places * keras.ops.rsqrt(squares + keras.config.epsilon())
