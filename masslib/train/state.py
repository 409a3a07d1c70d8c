"""Everything that a training is made of, as arrays: read for a checkpoint, written to resume."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from masslib.train.replicas import Replicas

# Spreads the seeds of the replicas: the golden ratio as a 32-bit fraction.
_STRIDE = 0x9E3779B9


class State:
    """The variables of a model, its optimizer and its metrics, by index and path.

    `get_weights()`, `.keras` and `.weights.h5` files and `tf.train.Checkpoint` all leave out the state of Dropout's
    seed, without which a resumed run draws other masks; `model.variables` has it.
    """

    def __init__(self, model: keras.Model, replicas: Replicas):
        self._model, self._replicas = model, replicas
        self._asked, self._all_finite = 0, None
        counted = [variable for variable in model.non_trainable_variables if "float" in variable.dtype]
        self._average = replicas.averaging(counted)
        of_optimizer = model.optimizer.variables if model.optimizer is not None else []
        groups = {"model": model.variables, "optimizer": of_optimizer, "metrics": _metrics(model)}
        # Without the numbers that Keras gives: the second model of a process is the first one of the next.
        self._variables = {
            f"{group}/{index:04d}/{re.sub(r'_[0-9]+(?=[/_]|$)', '', variable.path)}": variable
            for group, variables in groups.items()
            for index, variable in enumerate(variables)
        }

    def read(self) -> dict[str, np.ndarray]:
        """Return the value of every variable. Collective."""
        return {name: np.asarray(self._value(name, variable)) for name, variable in self._variables.items()}

    def write(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Give every variable its value back.

        Raises:
            ValueError: If the arrays are those of another model, optimizer or set of metrics; nothing is written.
        """
        arrays = {name: self._counted(name, array) for name, array in arrays.items()}
        found = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
        wanted = {name: self._form(name, variable) for name, variable in self._variables.items()}
        if found != wanted:
            lines = [
                f"  {name}: the checkpoint has {_shown(found.get(name))}, this training {_shown(wanted.get(name))}"
                for name in sorted(found.keys() | wanted.keys())
                if found.get(name) != wanted.get(name)
            ]
            raise ValueError(
                f"the checkpoint is that of another model or optimizer; {len(lines)} variables differ:\n"
                + "\n".join(lines)
            )
        for name, variable in self._variables.items():
            if self._differs(name):
                for rank, copy in enumerate(self._replicas.copies(variable), start=self._replicas.first):
                    copy.assign(arrays[name][rank])
            else:
                variable.assign(arrays[name])
        self.part_seeds()

    def finite(self) -> bool:
        """Whether all trained weights are finite numbers."""

        def all_finite() -> tf.Tensor:
            return tf.reduce_all([tf.reduce_all(tf.math.is_finite(v.value)) for v in self._model.trainable_variables])

        # Asked once an epoch, a graph would not be worth its making; asked after every step it is.
        self._asked += 1
        if self._asked == 3:
            self._all_finite = tf.function(all_finite)
        return bool(self._all_finite() if self._all_finite else all_finite())

    def average(self) -> None:
        """Give all replicas the mean of what each counted for itself, such as BatchNormalization's statistics.

        Keras keeps those of the first replica only. Collective.
        """
        self._average()

    def part_seeds(self) -> None:
        """Give the seed generators of each replica another seed, or all would draw the same dropout masks.

        Collective.
        """
        generators = [v for v in self._model.variables if v.path.endswith("seed_generator_state")]
        if not generators:
            return
        states = np.stack([variable.numpy() for variable in generators])
        states = np.frombuffer(self._replicas.broadcast(states.tobytes()), states.dtype).reshape(states.shape)
        for variable, (seed, counter) in zip(generators, states, strict=True):
            for rank, copy in enumerate(self._replicas.copies(variable), start=self._replicas.first):
                copy.assign(np.array([(int(seed) + rank * _STRIDE) % 2**32, counter], states.dtype))

    def _differs(self, name: str) -> bool:
        """Whether the replicas hold different values on purpose: each counts the metrics of its own rows."""
        return self._replicas.count > 1 and name.startswith("metrics/")

    def _value(self, name: str, variable: keras.Variable) -> np.ndarray:
        if not self._differs(name):
            return variable.numpy()
        mine = np.stack([copy.numpy() for copy in self._replicas.copies(variable)])
        parts = [np.frombuffer(part, mine.dtype) for part in self._replicas.gather(mine.tobytes())]
        return np.concatenate(parts).reshape(self._replicas.count, *mine.shape[1:])

    def _counted(self, name: str, array: np.ndarray) -> np.ndarray:
        """What other replicas than these have counted, in as many parts as there are now: sums, all in the first."""
        if not name.startswith("metrics/") or name not in self._variables:
            return array
        shape = tuple(self._variables[name].shape)
        parts = array if array.ndim > len(shape) else array[np.newaxis]
        if len(parts) == self._replicas.count or parts.shape[1:] != shape:
            return array
        total = parts.sum(axis=0, keepdims=True, dtype=array.dtype)
        if self._replicas.count == 1:
            return total[0]
        return np.concatenate([total, np.zeros((self._replicas.count - 1, *shape), array.dtype)])

    def _form(self, name: str, variable: keras.Variable) -> tuple[tuple[int, ...], str]:
        shape = tuple(variable.shape)
        return (self._replicas.count, *shape) if self._differs(name) else shape, str(variable.dtype)


def _metrics(model: keras.Model) -> list[keras.Variable]:
    return [variable for metric in model.metrics for variable in metric.variables]


def _shown(form: tuple | None) -> str:
    return "no such variable" if form is None else f"{form[1]} {form[0]}"


def check_complete(model: keras.Model) -> None:
    """Raise `ValueError` if a model has optimizers besides the compiled one, whose state `State` would leave out."""
    known = {id(model.optimizer), id(getattr(model.optimizer, "inner_optimizer", None))}
    others = []
    for name, value in vars(model).items():
        if name.startswith("_self_"):  # TensorFlow's own list of what the model holds
            continue
        parts = list(value.values()) if isinstance(value, dict) else value
        parts = parts if isinstance(parts, list | tuple) else [parts]
        if any(isinstance(part, keras.optimizers.Optimizer) and id(part) not in known for part in parts):
            others.append(name)
    if others:
        raise ValueError(
            f"model {model.name!r} has optimizers besides the one it is compiled with ({', '.join(others)}), whose "
            "state no checkpoint would hold; leave checkpoint out"
        )
