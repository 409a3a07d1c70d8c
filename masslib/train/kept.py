"""The traced train function, kept from one `fit` to the next until the model is compiled again, as Keras keeps its."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import keras

from masslib.train.step import config_of, other_optimizers

_NAME = "_masslib_train_function"


@dataclass(frozen=True)
class _Kept:
    """A train function, and what it was traced for; the objects are held, so that no other gets the id of one."""

    key: Hashable
    objects: list[Any]
    run: Callable


def kept(model: keras.Model, settings: Hashable, make: Callable[[], Callable]) -> Callable:
    """Return the train function of an earlier `fit`, or make one.

    To trace a small network takes longer than an epoch of it. `compile` makes new metrics, so that one made for others
    is not used again, nor is one for other variables to be trained or another schedule of the learning rate.

    Args:
        model: The compiled model.
        settings: What else a train function depends on.
        make: Makes it.
    """
    step = getattr(model.train_step, "__func__", model.train_step)
    objects = [step, model.optimizer, *other_optimizers(model), model.loss, model.distribute_strategy]
    objects += [*model.metrics, *model.trainable_variables]
    config = {} if model.optimizer is None else config_of(model.optimizer)
    if model.optimizer is not None and not config:  # nobody could tell whether it was set otherwise
        return make()
    if isinstance(config.get("learning_rate"), float):  # a variable, which is read at every step
        del config["learning_rate"]
    key = settings, model.jit_compile, repr(config), *map(id, objects)
    found = vars(model).get(_NAME)
    if found is None or found.key != key:
        found = _Kept(key, objects, make())
        # Past the model's own `__setattr__`, which would take it for a part of the model.
        vars(model)[_NAME] = found
    return found.run
