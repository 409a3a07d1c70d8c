"""A student that learns from answers which were given before: those of an ensemble, of trees, or of a file."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from masslib.compression.finetune import Tuner
from masslib.compression.steps.distillation_losses import SoftTargets
from masslib.data.subset import Subset
from masslib.graph.compiled import compile_alike, compile_config

_ROWS = 4096


class Taught(keras.Model):
    """Trains a student on targets `(n, labels + k)`: labels, and beside them what the teacher has answered."""

    def __init__(self, student: keras.Model, soft: SoftTargets, alpha: float, labels: int):
        super().__init__(name="taught")
        self.student, self._soft, self._alpha, self._labels = student, soft, alpha, labels
        self.built = True

    def call(self, x: Any, training: bool | None = None) -> Any:
        return self.student(x, training=training)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        labels, answers = y[:, : self._labels], y[:, self._labels :]
        loss = self._alpha * self._soft.compute_loss(answers, y_pred)
        if self._alpha < 1:
            loss += (1 - self._alpha) * self.student.compute_loss(x, labels, y_pred, sample_weight, training)
        return loss


def taught(
    student: keras.Model, activation: str, tuner: Tuner, teacher: Any, temperature: float, alpha: float, training: Any
) -> None:
    """Train a student in place.

    Args:
        student: A Keras 3 model with one output.
        activation: What its output comes from.
        tuner: Its data and how the model was compiled.
        teacher: Anything with `predict`.
        temperature: What logits are divided by.
        alpha: Weight of the answers.
        training: The settings of the step.

    Raises:
        ValueError: If the answers do not fit the student, or labels are needed and missing.
    """
    data = tuner.data
    answers = answered(teacher, data)
    if answers.ndim != 2 or answers.shape[1:] != tuple(student.outputs[0].shape[1:]):
        raise ValueError(
            f"{training!r}: the teacher answers {answers.shape[1:]} per row, the student "
            f"{tuple(student.outputs[0].shape[1:])}; expected one output of the same shape"
        )
    if data.y is None and alpha < 1:
        raise ValueError(f"{training!r}: the data have no labels; pass alpha=1 to learn from the teacher alone")
    labels = np.zeros((len(data), 0)) if data.y is None else np.asarray(data.y).reshape(len(data), -1)
    both = np.concatenate([labels, answers], axis=1).astype(np.float32)
    beside = dataclasses.replace(tuner, data=Subset(data.rows, both, None, data.weights, data.lengths))
    with tuner.model.distribute_strategy.scope():
        compile_alike(student, tuner.model, training.learning_rate)
        trained = Taught(student, SoftTargets(activation, temperature), alpha, labels.shape[1])
        settings = compile_config(tuner.model, training.learning_rate)
        trained.compile(keras.saving.deserialize_keras_object(settings["optimizer"]), student.loss)
    beside.run(trained, training)


def answered(teacher: Any, data: Subset) -> np.ndarray:
    """What a teacher answers to all rows, some thousands at a time."""
    parts = []
    for start in range(0, len(data), _ROWS):
        x = data[start : start + _ROWS][0]
        parts.append(teacher.predict(x, verbose=0) if isinstance(teacher, keras.Model) else teacher.predict(x))
    return np.concatenate([np.asarray(part) for part in parts])
