"""The forward pass of a model, as the converters take it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from masslib._util.messages import first_line
from masslib._util.quiet import quiet
from masslib.export.endpoints import Endpoint
from masslib.graph.nodes import named_layers


class Inference(keras.Model):
    """A model that answers a list of tensors, in the order of the names of an endpoint, with `training=False`.

    `keras.Model.export` traces a model without it, and the layers of augmentation take True for granted then: the file
    would answer flipped and turned images (up to Keras 3.13 at least).
    """

    def __init__(self, endpoint: Endpoint):
        super().__init__(name=endpoint.model.name)
        self.model, self._graph = endpoint.model, endpoint.graph
        self.built = True

    def call(self, x: Any) -> Any:
        """Answer a batch."""
        return list(self._graph(*(x if isinstance(x, list | tuple) else [x])).values())


def exported(endpoint: Endpoint, path: str, **options: Any) -> None:
    """Write a Keras 3 model by `keras.Model.export`, its inputs named as the endpoint says."""
    specs = list(endpoint.specs.values())
    signature = specs if len(specs) == 1 else [specs]
    Inference(endpoint).export(path, verbose=False, input_signature=signature, **options)


class MissingOperatorsError(ValueError):
    """A format has no operator for what some layers do.

    Attributes:
        layers: Operator -> name of the layer that it comes from, `outer/inner` inside of nested models; None where it
            cannot be told.
    """

    def __init__(self, message: str, layers: dict[str, str | None]) -> None:
        super().__init__(message, layers)
        self.layers = layers

    def __str__(self) -> str:
        return str(self.args[0])


@contextmanager
def converting(endpoints: list[Endpoint], converter: str) -> Iterator[None]:
    """Silence a converter, and raise a ValueError of one sentence whatever it raises."""
    try:
        with quiet():
            yield
    except (MemoryError, ModuleNotFoundError):
        raise
    except Exception as error:  # every converter has classes of its own, most of them not public
        told = " and ".join(endpoint.title for endpoint in endpoints)
        missing = _missing(str(error), endpoints)
        if missing:
            raise MissingOperatorsError(
                f"{converter} cannot write {told}: TFLite has no operator for {_listed(missing)}; put other layers in "
                "their place, or write it with masslib.export.saved_model",
                missing,
            ) from error
        raise ValueError(f"{converter} cannot write {told}: {_reason(error, endpoints)}") from error


def _missing(text: str, endpoints: list[Endpoint]) -> dict[str, str | None]:
    found = re.search(r"(?:TF Select|Custom) ops: (.+)", text)
    return _placed(found.group(1).split(", "), text, endpoints) if found else {}


def _reason(error: BaseException, endpoints: list[Endpoint]) -> str:
    """Why a converter gave up, in one sentence of the pages of MLIR that TFLite's may write."""
    text = str(error)
    found = re.search(r"'tf\.(\w+)' op (requires|failed|is|has)\b(.+)", text)
    if found:
        return f"{_listed(_placed([found.group(1)], text, endpoints))} {found.group(2)}{found.group(3)}"
    found = re.search(r"error: (?:loc\(.*\)\): )?(.+)", text)
    return found.group(1)[:200] if found else first_line(error)


def _listed(layers: dict[str, str | None]) -> str:
    return ", ".join(operator + (f" (layer {name!r})" if name else "") for operator, name in layers.items())


def _placed(operators: list[str], text: str, endpoints: list[Endpoint]) -> dict[str, str | None]:
    """Operators with the layers that they come from, where a layer can be told."""
    layers = {
        name.rpartition("/")[2]: name
        for endpoint in endpoints
        if hasattr(endpoint.model, "layers")
        for name in named_layers(endpoint.model)
    }
    placed: dict[str, str | None] = {}
    for operator in operators:
        place = re.search(rf'fused\["{re.escape(operator)}:", "([^"@]+)', text)
        parts = place.group(1).split("/")[1:-1] if place else []
        # A scope gets a number when its name is taken.
        names = [name for part in parts for name in (part, re.sub(r"_\d+$", "", part)) if name in layers]
        placed[operator] = layers[names[0]] if names else None
    return placed
