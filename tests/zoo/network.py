"""What the zoo knows of a network: how it is built, and rows for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

NETWORKS: dict[str, Network] = {}
"""All networks of the zoo by name."""


@dataclass(frozen=True)
class Network:
    """One network after an example of keras.io.

    Attributes:
        name: Its name in the table.
        build: Returns the compiled model.
        rows: Returns `(x, y)`, or `(x, None)` for a model that needs no labels; 24 rows each.
        deployed: What of the trained model is compressed and goes into files, compiled; the model itself by default.
        deployed_rows: Returns rows for what is deployed, of those for the model.
    """

    name: str
    build: Callable[[], keras.Model]
    rows: Callable[[np.random.Generator], tuple[Any, Any]]
    deployed: Callable[[keras.Model], keras.Model] = lambda model: model
    deployed_rows: Callable[[tuple[Any, Any]], tuple[Any, Any]] = lambda rows: rows

    def data(self) -> tuple[Any, Any]:
        """Return the same random rows each time."""
        return self.rows(np.random.default_rng(0))


def network(rows: Callable[[np.random.Generator], tuple[Any, Any]], **more: Any) -> Callable[[Callable], Callable]:
    """Put the function that builds a model into the zoo, under its own name."""

    def add(build: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
        NETWORKS[build.__name__] = Network(build.__name__, build, rows, **more)
        return build

    return add


ROWS = 24


def images(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw images, or other floats in [0, 1)."""
    return rng.random((ROWS, *shape), "float32")


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw standardized numbers."""
    return rng.normal(size=(ROWS, *shape)).astype("float32")


def ids(rng: np.random.Generator, limit: int, *shape: int) -> np.ndarray:
    """Draw words, users or classes."""
    return rng.integers(0, limit, (ROWS, *shape)).astype("int32")


def classifier(inputs: Any, outputs: Any, loss: Any = "sparse_categorical_crossentropy", **more: Any) -> keras.Model:
    """Make a functional model and compile it as most examples do."""
    model = keras.Model(inputs, outputs)
    more.setdefault("metrics", ["accuracy"] if loss == "sparse_categorical_crossentropy" else None)
    model.compile(optimizer=more.pop("optimizer", "adam"), loss=loss, **more)
    return model


def part(inputs: Any, outputs: Any, loss: Any = "mse") -> keras.Model:
    """Make the model that is deployed of a trained one, and compile it so that it can be fine-tuned."""
    model = keras.Model(inputs, outputs)
    model.compile(optimizer="adam", loss=loss)
    return model
