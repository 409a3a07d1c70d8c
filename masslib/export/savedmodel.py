"""Export to TensorFlow's SavedModel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from masslib.export import parity
from masslib.files import replacing

if TYPE_CHECKING:
    import keras


def saved_model(model: keras.Model, path: str | os.PathLike[str]) -> Path:
    """Write a model as a SavedModel folder, and check the folder against the model.

    The signature `serving_default` takes a batch of any size. TensorFlow loads it without masslib or Keras.

    Args:
        model: A built Keras 3 model with one input and one output.
        path: The folder to make; one that exists is replaced once the new one was checked.

    Returns:
        The path of the folder.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If the written folder answers differently from the model; nothing is left behind then.

    Example:
        >>> import masslib, tempfile
        >>> model = masslib.models.mlp((4,), 3)
        >>> path = masslib.export.saved_model(model, tempfile.mkdtemp() + "/mlp")
        >>> sorted(entry.name for entry in path.iterdir())
        ['assets', 'fingerprint.pb', 'saved_model.pb', 'variables']
    """
    write(model, path, check=True)
    return Path(path)


def write(model: keras.Model, path: str | os.PathLike[str], *, check: bool) -> None:
    if not hasattr(model, "export"):
        raise TypeError(f"expected a Keras model, got {type(model).__name__}; pass `compressed.model`")
    with replacing(path) as temporary, _quiet():
        model.export(str(temporary), verbose=False)
        if check:
            parity.check(temporary, model)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep TensorFlow from printing where it writes: the name is a temporary one, and stdout is the user's."""
    import tensorflow as tf

    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)
