"""Where a float layer feeds a quantized one: a layer in between that learns the int8 range of what passes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import tf_keras

from masslib.compression.tfmot.support import Connection, connected
from masslib.graph.weights import copy_weights


def with_boundaries(
    twin: tf_keras.Model, quantized: Collection[str], ranged: Collection[str] = ()
) -> tuple[tf_keras.Model, dict[str, bool]]:
    """Copy a model, with a linear activation between every float layer and the quantized layers that it feeds.

    There is one before and behind every operation that gets nothing but ranges, such as the products of an attention.

    Without a range for its input the converter leaves a quantized layer in float as well. TFMOT can wrap a float layer
    to quantize its output, but not one that has several inputs or outputs, such as an attention, and if it is the first
    one, TFMOT quantizes the input of the model with it, which fails for an `Embedding`.

    What is concatenated has one range, which is that of the result; a layer in front of a `Concatenate` learns none.

    Args:
        twin: A functional tf_keras model.
        quantized: Names of the layers that TFMOT quantizes.
        ranged: Names of operations that become int8 by the ranges around them.

    Returns:
        The copy, and by the names of the new layers that TFMOT has to know whether they are to learn a range.
    """
    config = twin.get_config()
    inputs = {layer["name"] for layer in config["layers"] if layer["class_name"] == "InputLayer"}
    new: dict[str, dict[str, Any]] = {}

    def linear(source: Connection, suffix: str) -> Connection:
        name, node, tensor = source
        layer = tf_keras.layers.Activation("linear", name=f"{name}/{suffix}_{node}_{tensor}")
        config = {**tf_keras.layers.serialize(layer), "name": layer.name, "inbound_nodes": [[[*source, {}]]]}
        new.setdefault(layer.name, config)
        return layer.name, 0, 0

    def behind(source: Connection) -> Connection:
        return source if source[0] in quantized or source[0] in inputs else linear(source, "range")

    def behind_numbers(source: Connection) -> Connection:
        return linear(source, "numbers") if source[0] in inputs else source

    def joined(source: Connection) -> Connection:
        return source if source[0] in quantized else linear(behind_numbers(source), "joined")

    def behind_operation(source: Connection) -> Connection:
        return behind(source) if source[0] in ranged else source

    for layer in config["layers"]:
        inside = layer["name"] in quantized or layer["name"] in ranged
        change = behind if inside else behind_operation
        if layer["class_name"] == "Embedding":  # TFMOT would quantize an input that feeds a quantized layer
            change = behind_numbers
        elif layer["class_name"] == "Concatenate" and inside:
            change = joined
        layer["inbound_nodes"] = connected(layer["inbound_nodes"], change)
    config["output_layers"] = connected(config["output_layers"], behind_operation)
    if not new:
        return twin, {}
    config["layers"] += new.values()
    classes = {type(layer).__name__: type(layer) for layer in twin.layers}
    copy = type(twin).from_config(config, custom_objects=classes)
    copy_weights(twin, copy)
    # The last suffix counts, for one may stand behind the other.
    kinds = {name: name.rpartition("/")[2].partition("_")[0] for name in new}
    return copy, {name: kind == "range" for name, kind in kinds.items() if kind != "numbers"}
