"""The forward pass of a model, as the converters take it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from masslib._util.messages import first_line
from masslib._util.quiet import quiet
from masslib.graph.nodes import named_layers

# TensorFlow passes inputs by these names as arguments of Python functions; the converters know fewer than it does.
_NAME = re.compile(r"(?!self$)[A-Za-z0-9][A-Za-z0-9_.-]*")


class Inference(keras.Model):
    """A Keras 3 model that is always called with `training=False`.

    `keras.Model.export` traces a model without it, and the layers of augmentation take True for granted then: the file
    would answer flipped and turned images (up to Keras 3.13 at least).
    """

    def __init__(self, model: keras.Model):
        super().__init__(name=model.name)
        self.model = model
        self.built = True

    def call(self, x: Any) -> Any:
        """Answer a batch."""
        return self.model(x, training=False)


def signature(model: Any, batch_size: int | None = None) -> keras.InputSpec:
    """What the exported function takes: the input of a model, named by it where the formats can, else `input_0`."""
    entry = model.inputs[0]
    name = entry.name if _NAME.fullmatch(entry.name) else "input_0"
    dtype = keras.backend.standardize_dtype(entry.dtype)
    return keras.InputSpec(dtype=dtype, shape=(batch_size or entry.shape[0], *entry.shape[1:]), name=name)


@contextmanager
def converting(model: Any, converter: str) -> Iterator[None]:
    """Silence a converter, and raise a ValueError of one sentence whatever it raises."""
    try:
        with quiet():
            yield
    except (MemoryError, ModuleNotFoundError):
        raise
    except Exception as error:  # every converter has classes of its own, most of them not public
        raise ValueError(f"{converter} cannot write model {model.name!r}: {_reason(error, model)}") from error


def _reason(error: BaseException, model: Any) -> str:
    """Why a converter gave up, in words of the model where TFLite's names operators in pages of MLIR."""
    text = str(error)
    found = re.search(r"(?:TF Select|Custom) ops: (.+)", text)
    missing = found.group(1).split(", ") if found else []
    if missing:
        return f"TFLite has no operator for {_listed(missing, text, model)}"
    found = re.search(r"'tf\.(\w+)' op (requires|failed|is|has)\b(.+)", text)
    if found:
        return f"{_listed([found.group(1)], text, model)} {found.group(2)}{found.group(3)}"
    found = re.search(r"error: (?:loc\(.*\)\): )?(.+)", text)
    return found.group(1)[:200] if found else first_line(error)


def _listed(operators: list[str], text: str, model: Any) -> str:
    """Operators with the layers that they come from, where a layer can be told."""
    layers = named_layers(model)
    told = []
    for operator in operators:
        place = re.search(rf'fused\["{re.escape(operator)}:", "([^"@]+)', text)
        parts = place.group(1).split("/")[1:-1] if place else []
        # A scope gets a number when its name is taken.
        names = [name for part in parts for name in (part, re.sub(r"_\d+$", "", part)) if name in layers]
        told.append(operator + (f" (layer {names[0]!r})" if names else ""))
    return ", ".join(told)
