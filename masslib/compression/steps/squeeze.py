"""Squeeze: weights become multiples of a learned step, at a price for every bit that they take in a packed file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from masslib.compression.finetune import Rebuilding, Tuner
from masslib.compression.step import split
from masslib.compression.steps.rates import bits
from masslib.compression.tfmot import support
from masslib.graph.compiled import compile_alike, compile_config
from masslib.graph.copying import copied
from masslib.graph.nodes import named_layers
from masslib.graph.unfolding import unfolded

# Steps per root mean square of the weights that are not zero, when it begins
_STEPS_PER_RMS = 2
_LEAST_STEP = 2.0**-10
# Different magnitudes of a kernel that was squeezed before
_FEW = 64
# Levels that the smallest of them may be at
_FEWEST_LEVELS = 4
# What cannot be seen as a model of plain layers; the kernels are those of its cells.
_RECURRENT = (keras.layers.RNN, keras.layers.Bidirectional)


@dataclass(frozen=True, repr=False)
class Squeeze(Rebuilding):
    """Train a network for the smallest file that `masslib.export.packed` can write.

    The weights of dense, recurrent and embedding layers and of convolutions, those inside of attention and of other
    layers made of layers too, become whole multiples of a step, one step for each kernel and each bias, which is
    learned with them. The loss gets a second term, `rate`
    times the bits per weight that the file will take, so that a weight moves to a cheaper multiple, zero above all,
    unless the accuracy holds it where it is. The network stays a float32 one, and its file answers as it does: there
    is nothing left to round.

    It begins best with a pruned network, whose zeros it keeps: `[Prune(0.9), Squeeze(0.3)]`. The TFLite
    file keeps its size, and gzip finds a part of what the packed one saves.

    The multiples with a straight-through gradient and the learned step are those of Esser et al., "Learned step size
    quantization", 2020; bits as the second term of the loss are from Oktay et al., "Scalable model compression by
    entropy penalized reparameterization", 2020; bits that depend on what stands beside a weight, and are those of the
    coder in use, from Wiedemann et al., "DeepCABAC", 2020.

    Args:
        rate: What a bit per weight costs, in units of the loss; 0.05 is gentle, 1 is strong.
        epochs: Passes over the data.
        max_steps: Upper limit of the training steps (batches), whatever the epochs.
        learning_rate: At the beginning, from which it falls to zero as a cosine does; that of the model's own optimizer
            if absent.

    Raises:
        ValueError: If the rate is not a positive number.

    Example:
        >>> Squeeze(0.3, epochs=5)
        Squeeze(0.3, epochs=5)
    """

    order = 4

    rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.rate, bool) or not isinstance(self.rate, int | float) or not 0 < self.rate < float("inf"):
            raise ValueError(f"Squeeze(rate={self.rate!r}): expected a positive number, such as 0.3")

    def rebuild(self, model: keras.Model, tuner: Tuner) -> tuple[keras.Model, dict[str, str]]:
        """Return a fine-tuned model of few different weights, and the layers left alone with the reason."""
        chosen, skipped = split(self, _reasons(unfolded(model)))
        with model.distribute_strategy.scope():
            result = copied(model)
            compile_alike(result, tuner.model, self.learning_rate)
            view = named_layers(unfolded(result))  # has the layers of the result itself
            layers = [layer for name, layer in view.items() if name in chosen]
            normalized = any(isinstance(layer, keras.layers.BatchNormalization) for layer in view.values())
            squeezed = _Squeezed(result, layers, self.rate, normalized)
            settings = compile_config(tuner.model, self.learning_rate)
            optimizer = keras.saving.deserialize_keras_object(settings["optimizer"])
            squeezed.compile(_falling(optimizer, tuner.steps(self)), result.loss)
        tuner.run(squeezed, self)
        squeezed.settle()
        return result, skipped


def _falling(optimizer: keras.optimizers.Optimizer, steps: int) -> keras.optimizers.Optimizer:
    """Let the learning rate fall to zero, or rounding would go on jumping to and fro; a schedule is left as it is."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    config = inner.get_config()
    if not isinstance(config["learning_rate"], float):
        return optimizer
    schedule = keras.optimizers.schedules.CosineDecay(config["learning_rate"], steps)
    renewed = type(inner).from_config(config | {"learning_rate": schedule})
    return renewed if inner is optimizer else type(optimizer)(renewed)


def _reasons(model: keras.Model) -> dict[str, str]:
    """Tell of every layer with a kernel whether it can be squeezed."""
    reasons = {}
    for name, layer in named_layers(model).items():
        kernel = support.kernel_name(layer)
        if kernel and getattr(layer, "lora_enabled", False):
            reasons[name] = "it has LoRA weights beside its kernel; save and load the model, which merges them"
        elif kernel:
            reasons[name] = "" if getattr(layer, kernel).trainable else "it is frozen"
        elif isinstance(layer, _RECURRENT) and layer.weights:
            reasons[name] = "" if layer.trainable_variables else "it is frozen"
        elif any(variable.ndim > 1 for variable in layer.trainable_variables):
            reasons[name] = "its weights are in no kernel that Squeeze knows"
    return reasons


class _Squeezed(keras.Model):
    """A network that answers with its weights rounded, and whose loss has a term for their bits."""

    def __init__(self, model: keras.Model, layers: list[keras.layers.Layer], rate: float, normalized: bool):
        super().__init__(name=model.name)
        self.student, self._rate = model, rate
        # The converter scales the kernel of a convolution by the normalization behind it, channel by channel; what a
        # power of two has made stays a multiple of one number per channel then.
        self._binary = normalized
        self._targets: dict[str, tuple[Any, Any, Any]] = {}
        self._free: dict[str, np.ndarray] = {}  # flat places of the weights that a mask lets change
        for variable in self._variables_of(layers):
            values = np.asarray(variable)
            mask = (values != 0).astype("float32") if values.ndim > 1 and support.is_sparse(values) else None
            step = self.add_weight(
                shape=(), name=f"step_{len(self._targets)}", initializer=keras.initializers.Constant(_first(values))
            )
            self._targets[variable.path] = (variable, step, mask)
            if mask is not None:
                self._free[variable.path] = np.flatnonzero(mask).astype("int32")
        self._size = sum(int(np.prod(variable.shape)) for variable, _, _ in self._targets.values())
        self.built = True

    def _variables_of(self, layers: list[keras.layers.Layer]) -> list[Any]:
        found = []
        for layer in layers:
            name = support.kernel_name(layer)  # recurrent layers have none
            kernel = getattr(layer, name) if name else None
            found += [variable for variable in layer.trainable_variables if variable is kernel or variable.ndim > 1]
            # Normalization adds to the bias of a convolution, so that it would be no multiple in the file.
            if not self._binary or kernel is None or kernel.ndim == 2:
                found += [variable for variable in layer.trainable_variables if variable.ndim == 1]
        return list({id(variable): variable for variable in found}.values())

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Answer with rounded weights."""
        values = []
        for variable in self.student.trainable_variables:
            value = ops.convert_to_tensor(variable)
            if variable.path in self._targets:
                _, rounded, width = self._levels(*self._targets[variable.path])
                value = rounded * width
            values.append(value)
        states = self.student.non_trainable_variables
        outputs, updated = self.student.stateless_call(values, states, x, training=training)
        if training:
            for state, value in zip(states, updated, strict=True):
                state.assign(value)
        return outputs

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Add what the bits cost to the loss that the network was compiled with."""
        spent = sum(bits(*self._levels(*target)[:2], self._free.get(path)) for path, target in self._targets.items())
        return self.student.compute_loss(x, y, y_pred, sample_weight, training) + self._rate / self._size * spent

    def _levels(self, variable: Any, step: Any, mask: Any) -> tuple[Any, Any, Any]:
        """A variable in steps, the same as whole numbers with the gradient of the former, and the step."""
        width = self._width(ops.convert_to_tensor(step))
        levels = ops.convert_to_tensor(variable) / width
        if mask is not None:
            levels = levels * mask
        rounded = levels + ops.stop_gradient(ops.round(levels) - levels)
        return levels, rounded, width

    def _width(self, exponent: Any) -> Any:
        if self._binary:
            exponent = exponent + ops.stop_gradient(ops.round(exponent) - exponent)
        return ops.power(2.0, exponent)

    def settle(self) -> None:
        """Round the weights for good."""
        for variable, step, mask in self._targets.values():
            width = np.asarray(self._width(ops.convert_to_tensor(step)), "float32")
            levels = np.rint(np.asarray(variable) / width) * (1 if mask is None else mask)
            # There are two zeros, and which of them it is would cost a bit.
            variable.assign((levels.astype("float64") * width.astype("float64") + 0.0).astype("float32"))


def _first(values: np.ndarray) -> float:
    """The logarithm, to base 2, of the step to begin with: that of before, where values are multiples already."""
    magnitudes = np.abs(values[values != 0])
    if not magnitudes.size:
        return float(np.log2(_LEAST_STEP))
    different = np.unique(magnitudes)
    for few in range(1, _FEWEST_LEVELS + 1 if len(different) <= _FEW else 1):
        multiples = few * different / different[0]
        if np.allclose(multiples, np.rint(multiples), rtol=1e-5):
            return float(np.log2(different[0] / few))
    rms = float(np.sqrt(np.mean(magnitudes**2)))
    return float(np.log2(max(rms / _STEPS_PER_RMS, _LEAST_STEP)))
