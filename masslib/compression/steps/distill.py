"""Distillation: a smaller network of another architecture learns from the answers of the large one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from masslib.compression.finetune import Rebuilding, Tuner
from masslib.graph.calls import calls
from masslib.graph.compiled import compile_config, own_losses
from masslib.graph.copying import copied


@dataclass(frozen=True, repr=False)
class Distill(Rebuilding):
    """Train a smaller network, the student, with the answers of the model, its teacher, and go on with the student.

    The student learns from the labels, and from the teacher's probabilities, softened by a temperature: they tell how
    much a shirt looks like a coat (Hinton et al., "Distilling the knowledge in a neural network", 2015, by way of
    `keras.distillation`). The temperature divides the logits, also where a model ends in a softmax: there they are
    the logarithms of its probabilities. A single sigmoid counts as two classes.

    Named layers of the student can learn from layers of the teacher, too. Outputs of the same shape are compared
    value by value (Romero et al., "FitNets", 2015); images of the same size with another number of channels by where
    they are active (Zagoruyko and Komodakis, "Paying more attention to attention", 2017).

    The student needs far more steps than the fine-tuning of other steps, often as many epochs as the teacher had. It
    stands first in a recipe. `Compressed.save` keeps the architecture of the student in the recipe, not the weights it
    started with.

    Args:
        student: A Keras 3 model with inputs and outputs like those of the model that is compressed, trained or not; it
            is not changed. Or a function without arguments that builds it, in the scope of the model's strategy.
        temperature: What the logits are divided by, above 0; 1 leaves the probabilities as they are.
        alpha: Weight of the teacher's answers and features, above 0 and up to 1; the labels have the rest.
        features: Name of a layer of the teacher -> name of the layer of the student that is to be like it.
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

    student: keras.Model | Callable[[], keras.Model]
    temperature: float = 4.0
    alpha: float = 0.9
    features: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.student):
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

    def rebuild(self, model: keras.Model, tuner: Tuner) -> tuple[keras.Model, dict[str, str]]:
        """Return the trained student; no layer is left alone."""
        from masslib.compression.steps import distillation_losses as losses

        settings = compile_config(tuner.model, self.learning_rate)
        with model.distribute_strategy.scope(), own_losses(tuner.model):
            student = self._built()
            activation = self._activation(model, student, settings["loss"])
            teachings = [losses.SoftTargets(activation, self.temperature)]
            teachings += [losses.Features(*names) for names in (self.features or {}).items()]
            # It freezes its teacher.
            distiller = keras.distillation.Distiller(
                copied(model), student, teachings, student_loss_weight=1 - self.alpha
            )
            compiled = keras.saving.deserialize_keras_object(settings)
            distiller.compile(compiled["optimizer"], losses.Labels(compiled["loss"]))
        tuner.run(distiller, self)
        with model.distribute_strategy.scope(), own_losses(tuner.model):
            # Made anew, for Keras takes a LossScaleOptimizer's settings apart.
            student.compile_from_config(compile_config(tuner.model, self.learning_rate))
        return student, {}

    def _built(self) -> keras.Model:
        """Return a new student."""
        if isinstance(self.student, keras.Model):
            return copied(self.student)
        student = self.student()
        if not isinstance(student, keras.Model):
            raise TypeError(f"{self!r}: the function returned {student!r}, expected a Keras 3 model")
        return student

    def _activation(self, model: keras.Model, student: keras.Model, loss: Any) -> str:
        """Return the activation that both end in; `"linear"` means that they return logits.

        Raises:
            ValueError: If they do not fit together, or there are no probabilities.
        """
        ends = [_ends(one) for one in (student, model)]
        if ends[0] != ends[1]:
            raise ValueError(f"{self!r}: the student maps {ends[0]}, the model {ends[1]}; expected them to be alike")
        found = [_last_activation(one) for one in (student, model)]
        if found[0] != found[1]:
            raise ValueError(
                f"{self!r}: the student ends in the activation {found[0]!r}, the model in {found[1]!r}; expected the "
                "same, because the loss is the same"
            )
        config = loss.get("config") if isinstance(loss, dict) else None  # a name for a function
        logits = isinstance(config, dict) and config.get("from_logits", False)
        if len(model.outputs) > 1 or found[0] not in (("linear",) if logits else ("softmax", "sigmoid")):
            raise ValueError(
                f"{self!r} learns from the probabilities of classes; expected one output that ends in a softmax or "
                f"sigmoid, or a loss with from_logits=True, got {len(model.outputs)} with the activation {found[0]!r}"
            )
        return found[0]

    def settings(self) -> dict[str, Any]:
        """Return the settings in a form that JSON can hold, the student as its architecture."""
        others = {name: value for name, value in vars(self).items() if name != "student"}
        return {"student": keras.saving.serialize_keras_object(self._built()), **others}

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Distill:
        """Make a step from what `settings` returned; its student is not trained."""
        student = keras.saving.deserialize_keras_object(settings["student"])
        return cls(**{**settings, "student": student})


def _ends(model: keras.Model) -> str:
    inputs, outputs = (", ".join(str(tensor.shape) for tensor in side) for side in (model.inputs, model.outputs))
    return f"{inputs} to {outputs}"


def _last_activation(model: keras.Model) -> str:
    _, found, outputs = calls(model)
    last = next(call.layer for call in found if any(tensor is outputs[0] for tensor in call.outputs))
    if type(last).__name__ == "Softmax":
        return "softmax"
    return getattr(getattr(last, "activation", None), "__name__", "linear")
