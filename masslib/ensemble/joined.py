"""Networks as one network: they share the input, and their answers are combined inside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from masslib.ensemble.members import Member
from masslib.graph.compiled import compile_alike
from masslib.graph.copying import copied
from masslib.runtime.ensembles import LEAST, Rule


def joined(members: Sequence[Member], rule: Rule) -> keras.Model:
    """One Keras model of all members, compiled as the first of them that is.

    Raises:
        ValueError: If a member is no network that can be copied, or their inputs differ.
    """
    networks = [_network(member) for member in members]
    first = networks[0]
    shapes = [[(tuple(it.shape), it.dtype) for it in network.inputs] for network in networks]
    for member, shape in zip(members, shapes, strict=True):
        if shape != shapes[0]:
            raise ValueError(f"member {member.name!r} takes {shape}, and {members[0].name!r} {shapes[0]}")
    structure = first.inputs[0] if isinstance(first, keras.Sequential) else first.input
    inputs = keras.tree.map_structure(
        lambda it: keras.Input(batch_shape=it.shape, dtype=it.dtype, name=it.name), structure
    )
    answers = []
    for number, (member, network) in enumerate(zip(members, networks, strict=True)):
        copy = copied(network)
        copy.name = f"{re.sub(r'[^A-Za-z0-9_]+', '_', member.name).strip('_') or 'member'}_{number}"
        answers.append(copy(inputs))
    whole = keras.Model(inputs, _combined(answers, rule), name="ensemble")
    if rule.how == "stack":
        whole.get_layer("stack").set_weights([np.asarray(it, np.float32) for it in (rule.kernel, rule.bias)])
    compiled = next((network for network in networks if network.compiled), None)
    if compiled is not None:
        compile_alike(whole, compiled)
    return whole


def _network(member: Member) -> keras.Model:
    model = member.model
    path = getattr(model, "path", None)
    if isinstance(path, Path) and path.suffix == ".keras":
        model = keras.saving.load_model(path)
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None) or len(model.outputs) != 1:
        raise ValueError(
            f"member {member.name!r} ({member.kind}) is no Keras network with known inputs and one output, so that "
            "the ensemble cannot become one; masslib.package(ensemble, ...) keeps every member in a file of its own"
        )
    return model


def _combined(answers: list[Any], rule: Rule) -> Any:
    if rule.how == "stack":
        logs = keras.ops.log(keras.ops.maximum(keras.layers.Concatenate(name="beside")(answers), LEAST))
        return keras.layers.Dense(answers[0].shape[-1], activation="softmax", name="stack")(logs)
    if rule.how == "vote":
        answers = [_vote(answer) for answer in answers]
    if np.allclose(rule.weights, rule.weights[0]):
        return keras.layers.Average(name="mean")(answers)
    weighed = [
        keras.layers.Rescaling(float(weight), name=f"weight_{number}")(answer)
        for number, (answer, weight) in enumerate(zip(answers, rule.weights, strict=True))
    ]
    return keras.layers.Add(name="mean")(weighed)


def _vote(answer: Any) -> Any:
    if answer.shape[-1] == 1:
        return keras.ops.cast(answer > 0.5, "float32")
    # The first of the largest values; TFLite has no operators for what keras.ops.argmax and one_hot are made of.
    largest = keras.ops.cast(keras.ops.equal(answer, keras.ops.max(answer, axis=-1, keepdims=True)), "float32")
    return largest * keras.ops.cast(keras.ops.cumsum(largest, axis=-1) < 1.5, "float32")
