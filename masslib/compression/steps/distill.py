"""Distillation: a smaller network of another architecture learns from the answers of the large one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from masslib.compression.finetune import Rebuilding, Tuner
from masslib.graph.calls import calls
from masslib.graph.compiled import compile_alike, compile_config, per_output
from masslib.graph.copying import copied
from masslib.runtime import load


@dataclass(frozen=True, repr=False)
class Distill(Rebuilding):
    """Train a smaller network, the student, with the answers of the model, its teacher, and go on with the student.

    The student learns from the labels, and from the teacher's probabilities, softened by a temperature: they tell how
    much a shirt looks like a coat (Hinton et al., "Distilling the knowledge in a neural network", 2015, by way of
    `keras.distillation`). The temperature divides the logits, also where a model ends in a softmax: there they are
    the logarithms of its probabilities. A single sigmoid counts as two classes.

    Of several outputs each is learned with its weight in the loss; those that are no probabilities of classes are to
    be the teacher's, value by value. Weights of rows count for the labels alone.

    Named layers of the student can learn from layers of the teacher, too. Outputs of the same shape are compared
    value by value (Romero et al., "FitNets", 2015); images of the same size with another number of channels by where
    they are active (Zagoruyko and Komodakis, "Paying more attention to attention", 2017).

    The model itself need not be the teacher: an `Ensemble`, the path of a file or whatever else predicts can be passed.
    It answers every row of the data once, before the training, without augmentation. Rows without labels will do with
    `alpha=1`: they should be others than those it was trained on, of which it is too sure.

    The student needs far more steps than the fine-tuning of other steps, often as many epochs as the teacher had. It
    stands first in a recipe. `Compressed.save` keeps the architecture of the student in the recipe, not the weights it
    started with.

    Args:
        student: A Keras 3 model with inputs and outputs like those of the model that is compressed, trained or not; it
            is not changed. Several inputs have the names of the model's, outputs may have others. Or a function without
            arguments that builds it, in the scope of the model's strategy. With a teacher of its own the model itself
            if absent, which goes on learning.
        temperature: What the logits are divided by, above 0; 1 leaves the probabilities as they are.
        alpha: Weight of the teacher's answers and features, above 0 and up to 1; the labels have the rest.
        features: Name of a layer of the teacher -> name of the layer of the student that is to be like it.
        teacher: What the student learns from, if not the model that is compressed: anything with `predict`, such as a
            `masslib.Ensemble`, or the path of a file. It has one output. `Compressed.save` keeps its name alone.
        epochs: Passes over the data.
        max_steps: Upper limit of the training steps (batches), whatever the epochs.
        learning_rate: Of the training; that of the model's own optimizer if absent.

    Raises:
        ValueError: If the student is neither, or a number is out of range.

    Example:
        >>> import masslib
        >>> student = masslib.models.mlp((8, 8, 1), 10, hidden=(32,))
        >>> Distill(student, epochs=5).temperature
        4.0
    """

    order = 0

    student: keras.Model | Callable[[], keras.Model] | None = None
    temperature: float = 4.0
    alpha: float = 0.9
    features: Mapping[str, str] | None = None
    teacher: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.student) and (self.teacher is None or self.student is not None):
            raise ValueError(
                f"Distill(student={self.student!r}): expected a Keras 3 model, or a function without arguments that "
                "builds one"
            )
        if not isinstance(self.temperature, int | float) or not 0 < self.temperature < float("inf"):
            raise ValueError(f"Distill(temperature={self.temperature!r}): expected a positive number, such as 4")
        if not isinstance(self.alpha, int | float) or not 0 < self.alpha <= 1:
            raise ValueError(f"Distill(alpha={self.alpha!r}): expected a number above 0 and up to 1")
        if self.features is not None and not isinstance(self.features, Mapping):
            raise ValueError(
                f"Distill(features={self.features!r}): expected a dict from names of layers of the model to names of "
                "layers of the student"
            )
        if self.teacher is not None and self.features is not None:
            raise ValueError(
                "Distill(teacher=..., features=...): features are those of the model; leave one of them out"
            )
        if not (
            self.teacher is None or isinstance(self.teacher, str | os.PathLike) or hasattr(self.teacher, "predict")
        ):
            raise ValueError(
                f"Distill(teacher={self.teacher!r}): expected something with predict(), such as a masslib.Ensemble, or "
                "the path of a file"
            )

    def rebuild(self, model: keras.Model, tuner: Tuner) -> tuple[keras.Model, dict[str, str]]:
        """Return the trained student; no layer is left alone."""
        from masslib.compression.steps import distillation_losses as losses

        if self.teacher is not None:
            return self._taught(model, tuner), {}
        with model.distribute_strategy.scope():
            student = self._built()
            weights, teachings = self._answers(model, student, tuner.model)
            teachings += [losses.Features(*names) for names in (self.features or {}).items()]
            weights += [1.0] * len(self.features or {})
            compile_alike(student, tuner.model, self.learning_rate)
            # It freezes its teacher.
            distiller = losses.Distiller(copied(model), student, teachings, weights, student_loss_weight=1 - self.alpha)
            settings = compile_config(tuner.model, self.learning_rate)
            distiller.compile(keras.saving.deserialize_keras_object(settings["optimizer"]), student.loss)
        tuner.run(distiller, self)
        with model.distribute_strategy.scope():
            # Made anew, for Keras takes a LossScaleOptimizer's settings apart.
            compile_alike(student, tuner.model, self.learning_rate)
        return student, {}

    def _taught(self, model: keras.Model, tuner: Tuner) -> keras.Model:
        """Return the student after it has learned from a teacher of its own."""
        from masslib.compression.steps.taught import taught

        with model.distribute_strategy.scope():
            student = copied(model) if self.student is None else self._built()
        (activation, *others) = _last_activations(student)
        ends = [_ends(one) for one in (student, model)]
        if ends[0] != ends[1] or others or activation not in ("softmax", "sigmoid"):
            raise ValueError(
                f"{self!r}: the student maps {ends[0]} and ends in {activation!r}, the model maps {ends[1]}; expected "
                "them to be alike, with one output that ends in a softmax or sigmoid"
            )
        teacher = load(self.teacher) if isinstance(self.teacher, str | os.PathLike) else self.teacher
        taught(student, activation, tuner, teacher, self.temperature, self.alpha, self)
        with model.distribute_strategy.scope():
            compile_alike(student, tuner.model, self.learning_rate)
        return student

    def _built(self) -> keras.Model:
        """Return a new student."""
        if isinstance(self.student, keras.Model):
            return copied(self.student)
        student = self.student()
        if not isinstance(student, keras.Model):
            raise TypeError(f"{self!r}: the function returned {student!r}, expected a Keras 3 model")
        return student

    def _answers(
        self, model: keras.Model, student: keras.Model, compiled: keras.Model
    ) -> tuple[list[float], list[keras.distillation.DistillationLoss]]:
        """Return what the student learns of each output of the model, and the weights of the outputs.

        Raises:
            ValueError: If the two do not fit together, or no output has probabilities.
        """
        from masslib.compression.steps import distillation_losses as losses

        ends = [_ends(one) for one in (student, model)]
        if ends[0] != ends[1]:
            raise ValueError(f"{self!r}: the student maps {ends[0]}, the model {ends[1]}; expected them to be alike")
        config = compile_config(compiled)
        weights = [1.0 if it is None else float(it) for it in per_output(config["loss_weights"], compiled)]
        found = list(zip(_last_activations(student), _last_activations(model), strict=True))
        teachings: list[Any] = []
        for index, ((of_student, of_model), loss) in enumerate(
            zip(found, per_output(config["loss"], compiled), strict=True)
        ):
            if of_student != of_model:
                raise ValueError(
                    f"{self!r}: the student ends in the activation {of_student!r}, the model in {of_model!r}; expected "
                    "the same, because the loss is the same"
                )
            settings = loss.get("config") if isinstance(loss, dict) else None  # a name for a function
            logits = isinstance(settings, dict) and settings.get("from_logits", False)
            classes = of_model in (("linear",) if logits else ("softmax", "sigmoid"))
            teachings.append(
                losses.SoftTargets(of_model, self.temperature, index) if classes else losses.SameAnswers(index)
            )
        if not any(isinstance(it, losses.SoftTargets) for it in teachings):
            raise ValueError(
                f"{self!r} learns from the probabilities of classes; expected an output that ends in a softmax or "
                f"sigmoid, or a loss with from_logits=True, got {len(found)} with the activation "
                f"{', '.join(repr(it) for _, it in found)}"
            )
        return weights, teachings

    def settings(self) -> dict[str, Any]:
        """Return the settings in a form that JSON can hold, the student as its architecture."""
        others = {name: value for name, value in vars(self).items() if name not in ("student", "teacher")}
        student = None if self.student is None else keras.saving.serialize_keras_object(self._built())
        # Its name alone, which stands for a file when it is used again.
        return {"student": student, "teacher": None if self.teacher is None else str(self.teacher), **others}

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Distill:
        """Make a step from what `settings` returned; its student is not trained."""
        told = settings["student"]
        student = None if told is None else keras.saving.deserialize_keras_object(told)
        return cls(**{**settings, "student": student})


def _ends(model: keras.Model) -> str:
    several = len(model.inputs) > 1
    inputs = ", ".join(f"{tensor.name} {tensor.shape}" if several else str(tensor.shape) for tensor in model.inputs)
    return f"{inputs} to {', '.join(str(tensor.shape) for tensor in model.outputs)}"


def _last_activations(model: keras.Model) -> list[str]:
    """Return the activation that each output comes from; `"linear"` means that it holds logits or quantities."""
    _, found, outputs = calls(model)
    last = [next(call.layer for call in found if any(it is tensor for it in call.outputs)) for tensor in outputs]
    return [
        "softmax"
        if type(layer).__name__ == "Softmax"
        else getattr(getattr(layer, "activation", None), "__name__", "linear")
        for layer in last
    ]
