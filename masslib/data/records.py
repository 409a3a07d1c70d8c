"""`from_records`: what a service was asked, and what people said of its answers, as rows for the next training."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from masslib._util.photos import Decoder
from masslib.data.arrays import from_arrays
from masslib.data.subset import Subset


def from_records(
    where: str | os.PathLike[str],
    *,
    model: str | None = None,
    version: int | None = None,
    unlabelled: str = "drop",
    image_size: tuple[int, int] | None = None,
) -> Subset:
    """Make a `Subset` of the answers that a service kept with `--record`.

    Args:
        where: the SQLite file, or a URL of SQLAlchemy.
        model: its name; needed if answers of several were kept.
        version: rows of one version alone.
        unlabelled: "drop" takes only rows that people gave a label (`POST /feedback`); "answer" takes the answer of
            the model where nobody did, which teaches the next model the faults of this one.
        image_size: height and width of the photos, by default what the model took.

    Returns:
        Inputs as the model got them, and class numbers; `classes` are their names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there are no such rows, or they do not go together.

    Example:
        >>> import masslib, pathlib, tempfile, time
        >>> splits = masslib.data.load("digits")
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> model = masslib.models.mlp(splits.input_shape, splits.num_classes)
        >>> _ = masslib.package(model, folder / "models/digits/1", splits, formats=["tflite"], verbose=False)
        >>> with masslib.serve(folder / "models", record=str(folder / "answers.sqlite")) as server:
        ...     answers = server.predict(splits.test[:5][0], "digits")
        >>> masslib.data.from_records(folder / "answers.sqlite", unlabelled="answer").input_shape
        (8, 8, 1)
    """
    from masslib._util import records  # SQLAlchemy comes with an extra

    if unlabelled not in ("drop", "answer"):
        raise ValueError(f'unlabelled={unlabelled!r}: expected "drop" or "answer"')
    if "://" not in str(where) and not os.path.isfile(where):
        raise FileNotFoundError(f"{where} does not exist; start the service with --record {where}")
    engine = records.engine(where)
    try:
        rows = records.read(engine, model, version)
    finally:
        engine.dispose()
    names = sorted({row["model"] for row in rows})
    if len(names) > 1:
        raise ValueError(f"{where} holds answers of {', '.join(names)}; say which with model=")
    kept = [row for row in rows if row["label"] is not None or (unlabelled == "answer" and row["answer"] is not None)]
    if not kept:
        raise ValueError(
            f"{where} holds {len(rows)} such answers, none with a label; give some (POST /feedback), or pass "
            'unlabelled="answer"'
        )
    classes = json.loads(kept[-1]["classes"]) if kept[-1]["classes"] else None
    if classes is None:
        raise ValueError(f"the answers of {kept[-1]['model']} have no classes")
    inputs, labels = [], []
    for row in kept:
        label = row["label"] if row["label"] is not None else row["answer"]
        if label not in classes:
            raise ValueError(f"the label {label!r} of {row['request_id']} is none of {', '.join(classes)}")
        inputs.append(_input(row, image_size, records.unpacked))
        labels.append(classes.index(label))
    shapes = sorted({array.shape[1:] for array in inputs})
    if len(shapes) > 1:
        raise ValueError(f"the rows have different shapes: {shapes}; choose a version, or pass image_size")
    return from_arrays(np.concatenate(inputs), np.asarray(labels, np.int32), classes=classes, scale=1)


def _input(row: Mapping[str, Any], image_size: tuple[int, int] | None, unpacked: Any) -> np.ndarray:
    """The one row `(1, ...)` of an answer."""
    if row["kind"] == "photo":
        told = json.loads(row["preprocessing"])
        size = tuple(image_size or told["size"])
        decode = Decoder(size, told["channels"], told["resize"], 50_000_000, ("PNG", "JPEG", "WEBP"))
        return decode(io.BytesIO(row["input"]))[None].astype(np.float32) * np.float32(told["scale"])
    arrays = list(unpacked(row["input"]).values())
    if len(arrays) != 1:
        raise ValueError(f"answer {row['request_id']} has {len(arrays)} inputs; from_records takes models with one")
    return arrays[0]
