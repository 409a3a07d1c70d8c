"""What the columns of Spark, Ray and pandas hold."""

from __future__ import annotations

from typing import Any

import numpy as np

PHOTO, TEXT = "photo", "text"
_SPARK = {"byte": "i1", "short": "i2", "integer": "i4", "long": "i8", "float": "f4", "double": "f8", "boolean": "b1"}


def columns_of(frame: Any) -> dict[str, str | None]:
    """The columns of a frame and what they hold: PHOTO, TEXT, a NumPy type, or None for what no shard holds."""
    match library_of(frame):
        case "pyspark":
            return {column.name: _of_spark(column.dataType) for column in frame.schema.fields}
        case "ray":
            frame = frame.limit(1).to_pandas()
        case "pandas":
            pass
        case _:
            raise TypeError(
                f"frame is a {type(frame).__name__}, expected a DataFrame of Spark or pandas, or a Dataset of Ray."
            )
    return {name: _of_values(frame[name]) for name in frame.columns}


def columns_in(given: Any) -> list[str]:
    """All columns that a structure names."""
    if isinstance(given, dict):
        return [name for part in given.values() for name in columns_in(part)]
    return list(given) if isinstance(given, list) else [] if given is None else [given]


def library_of(frame: Any) -> str:
    return type(frame).__module__.partition(".")[0]


def _of_spark(kind: Any) -> str | None:
    while kind.typeName() == "array":
        kind = kind.elementType
    if kind.typeName() in ("string", "binary"):
        return {"string": TEXT, "binary": PHOTO}[kind.typeName()]
    return "f8" if kind.typeName() == "decimal" else _SPARK.get(kind.typeName())


def _of_values(column: Any) -> str | None:
    first = column.iloc[0] if len(column) else None
    if isinstance(first, bytes):
        return PHOTO
    if isinstance(first, str):
        return TEXT
    kind = np.asarray(first).dtype if column.dtype.kind == "O" else getattr(column.dtype, "numpy_dtype", column.dtype)
    return np.dtype(kind).str[1:] if np.dtype(kind).kind in "biuf" else None
