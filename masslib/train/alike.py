"""Compares what the workers of a training are about to do, since each of them would wait for the others forever."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from masslib.train.replicas import Replicas

_SHOWN = 5
# What Keras appends to a name that is taken: the second model of a process may be the first one of another.
_NUMBER = re.compile(r"_[0-9]+(?=[/_]|$)")


def check_alike(
    model: keras.Model,
    settings: Mapping[str, Any],
    callbacks: Sequence[keras.callbacks.Callback],
    replicas: Replicas,
) -> None:
    """Compare the model, what it is compiled with, the settings and the callbacks of all workers. Collective.

    Args:
        model: The model.
        settings: Arguments that all workers have to pass alike.
        callbacks: Callbacks; those of Keras that act on the training are compared. Others may be passed to one alone.
        replicas: The replicas.

    Raises:
        ValueError: If a worker differs from rank 0, on all of them.
    """
    if replicas.workers == 1:
        return
    mine = {
        "model": _digest([[_unnumbered(v.path), list(v.shape), str(v.dtype)] for v in model.variables]),
        "layers": _digest([[_unnumbered(x.name), type(x).__name__, x.dtype_policy.name] for x in model.layers]),
        "weights": f"{sum(math.prod(v.shape) for v in model.weights):,}",
        **_flat("optimizer", _described(model.optimizer)),
        **({} if model.optimizer is None else {"learning_rate": _learning_rate(model)}),
        **_flat("loss", _described(model.loss)),
        **_flat("metrics", _metrics(model)),
        **_flat("callbacks", [_described(callback) for callback in callbacks if _acts(callback)]),
    }
    for name, value in settings.items():
        mine |= _flat(name, _described(value))
    _compare(mine, replicas, "the workers do not train the same")


def check_learning_rate(model: keras.Model, replicas: Replicas) -> None:
    """Compare the learning rates of all workers, which a callback on one of them may have changed. Collective.

    Raises:
        ValueError: If they differ, on all workers.
    """
    if replicas.workers > 1 and model.optimizer is not None:
        rates = {"learning_rate": _learning_rate(model)}
        _compare(rates, replicas, "a callback changed the training of some workers only; pass it to all of them")


def _compare(mine: Mapping[str, Any], replicas: Replicas, problem: str) -> None:
    everyone = [json.loads(content) for content in replicas.gather(json.dumps(mine).encode())]
    problems = [
        f"worker {rank} has {name}={theirs.get(name, 'nothing')}, worker 0 {everyone[0].get(name, 'nothing')}"
        for rank, theirs in enumerate(everyone)
        for name in _different(theirs, everyone[0])
    ]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more differences" if len(problems) > _SHOWN else ""
        raise ValueError(f"{problem}: {'; '.join(problems[:_SHOWN])}{more}")


def _different(theirs: Mapping[str, Any], first: Mapping[str, Any]) -> list[str]:
    """Names of what differs, without what is inside of something else that does."""
    different: list[str] = []
    for name in {**first, **theirs}:
        outer = any(name.startswith(f"{found}.") for found in different)
        if not outer and theirs.get(name) != first.get(name):
            different.append(name)
    return different


def _learning_rate(model: keras.Model) -> float:
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))


def _acts(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback acts on the training in a way that has to be the same on all workers."""
    known = keras.callbacks
    acting = (known.EarlyStopping, known.LearningRateScheduler, known.ReduceLROnPlateau, known.SwapEMAWeights)
    return isinstance(callback, acting)


def _metrics(model: keras.Model) -> Any:
    """The names of the metrics; Keras makes the metrics themselves at the first batch."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a lambda cannot be loaded everywhere
            config = model.get_compile_config()
    except Exception:  # whatever an object without a complete get_config raises
        return None
    return [_names(config.get(name)) for name in ("metrics", "weighted_metrics")]


def _names(config: Any) -> Any:
    if isinstance(config, list | tuple):
        return [_names(item) for item in config]
    if not isinstance(config, dict):
        return config
    if "class_name" not in config:
        return {name: _names(item) for name, item in config.items()}
    own = config["config"]
    return {"": config["class_name"], "name": own if isinstance(own, str) else _described(own.get("name"))}


def _described(value: Any) -> Any:
    """Describe a value by numbers, strings, lists and dicts that are the same in every process."""
    if value is None or isinstance(value, bool | int | float):
        return "nan" if value != value else value
    if isinstance(value, str):
        return _unnumbered(value)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_described(item) for item in value]
    if isinstance(value, functools.partial):
        return _described([value.func, value.args, value.keywords])
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    return {"": type(value).__name__, **_attributes(value)}


def _attributes(value: Any) -> dict[str, Any]:
    """What an object is made of: its config, or its public numbers and strings where it has none."""
    try:
        return _described(value.get_config())
    except Exception:  # most objects of users have none, or one that raises
        public = {name: item for name, item in getattr(value, "__dict__", {}).items() if name[0] != "_"}
        plain = {name: _described(item) for name, item in public.items() if isinstance(item, str | int | float)}
        return {name: item for name, item in plain.items() if name != "verbose"}


def _flat(name: str, value: Any) -> dict[str, Any]:
    """Name every number and string in a description, as in `optimizer.momentum`."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {} if value is None else {name: value}
    inside: dict[str, Any] = {}
    for key, item in value.items():
        inside |= _flat(f"{name}.{key}" if key != "" else name, item)
    return inside


def _unnumbered(name: str) -> str:
    return _NUMBER.sub("", name)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]
