"""What a student learns from. All are losses of Keras, so that several replicas share them out as any other loss."""

from __future__ import annotations

from typing import Any

import keras

# Smaller probabilities are as good as zero, of which there is no logarithm.
_LEAST = 1e-30


class Distiller(keras.distillation.Distiller):
    """A distiller whose student learns from the labels by all that it was compiled with."""

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        share = self.student_loss_weight
        taught = super().compute_loss(x, None, y_pred, training=training)  # without labels, the teacher's part alone
        if y is None or not share:
            return taught
        return taught + share * self.student.compute_loss(x, y, y_pred, sample_weight, training)


class SoftTargets(keras.distillation.LogitsDistillation):
    """The divergence of two softened distributions, from the outputs of models that may end in an activation."""

    def __init__(self, activation: str, temperature: float, index: int = 0):
        # The name of a loss would be the function, which Keras calls with logits instead of probabilities.
        super().__init__(temperature, keras.losses.KLDivergence())
        self._activation, self._index = activation, index

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Their structures may differ; `Distill` has compared the shapes."""

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        answers = [keras.tree.flatten(outputs)[self._index] for outputs in (teacher_outputs, student_outputs)]
        return super().compute_loss(*map(self._logits, answers), **kwargs)

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


class SameAnswers(keras.distillation.DistillationLoss):
    """The squared difference of one output of the two, value by value."""

    def __init__(self, index: int):
        self._index = index

    def validate_model_compatibility(self, teacher: keras.Model, student: keras.Model) -> None:
        """`Distill` has compared their shapes."""

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Their structures may differ."""

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        return Alike()(*(keras.tree.flatten(outputs)[self._index] for outputs in (teacher_outputs, student_outputs)))


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
