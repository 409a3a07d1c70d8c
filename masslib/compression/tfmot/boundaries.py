"""Where a float layer feeds a quantized one: a layer in between that learns the int8 range of what passes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import tf_keras

from masslib.compression.tfmot.support import Connection, connected
from masslib.graph.weights import copy_weights


def with_boundaries(twin: tf_keras.Model, quantized: Collection[str]) -> tuple[tf_keras.Model, set[str]]:
    """Copy a model, with a linear activation between every float layer and the quantized layers that it feeds.

    Without a range for its input the converter leaves a quantized layer in float as well. TFMOT can wrap a float layer
    to quantize its output, but not one that has several inputs or outputs, such as an attention, and if it is the first
    one, TFMOT quantizes the input of the model with it, which fails for an `Embedding`.

    Args:
        twin: A functional tf_keras model.
        quantized: Names of the layers that TFMOT quantizes.

    Returns:
        The copy, and the names of the new layers.
    """
    config = twin.get_config()
    inputs = {name for name, *_ in config["input_layers"]}
    new: dict[tuple[str, int, int], dict[str, Any]] = {}

    def behind(source: Connection) -> Connection:
        name, node, tensor = source
        if name in quantized or name in inputs:
            return source
        if source not in new:
            layer = tf_keras.layers.Activation("linear", name=f"{name}/range_{node}_{tensor}")
            connection = [name, node, tensor, {}]
            new[source] = {**tf_keras.layers.serialize(layer), "name": layer.name, "inbound_nodes": [[connection]]}
        return new[source]["name"], 0, 0

    for layer in config["layers"]:
        if layer["name"] in quantized:
            layer["inbound_nodes"] = connected(layer["inbound_nodes"], behind)
    if not new:
        return twin, set()
    config["layers"] += new.values()
    classes = {type(layer).__name__: type(layer) for layer in twin.layers}
    copy = type(twin).from_config(config, custom_objects=classes)
    copy_weights(twin, copy)
    return copy, {layer["name"] for layer in new.values()}
