"""Packages for the tests of the service: three versions of a classifier of digits, which answer differently."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import keras

import masslib

NAME = "digits"


def make(folder: Path) -> dict[int, Path]:
    """Version -> package."""
    splits = masslib.data.load("digits")
    made = {}
    for version in (1, 2, 3):
        keras.utils.set_random_seed(version)
        model = masslib.models.mlp(splits.input_shape, splits.num_classes)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        x, y = splits.train[:]
        model.fit(x, y, epochs=version, batch_size=64, verbose=0)
        path = folder / str(version)
        made[version] = masslib.package(model, path, splits, formats=["tflite"], verbose=False)
    return made


def put(package: Path, root: Path, version: int, *, name: str = NAME) -> Path:
    """Copy a package to where it is served, whole at once."""
    target = root / name / str(version)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{version}")
    shutil.copytree(package, temporary)
    os.rename(temporary, target)
    return target
