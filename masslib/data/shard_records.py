"""How rows become records of TFRecord files, and where in them each field stands.

A record is a `tf.train.Example` with a byte string for each field, in the order of their names.
Formats: https://www.tensorflow.org/tutorials/load_data/tfrecord, https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from typing import Any

import numpy as np

from masslib.data.rows import NestedRows, Rows
from masslib.data.shard_rows import Field
from masslib.data.subset import Subset

PARTS = ("x", "y", "sample_weight")
FRAME = 12, 4  # bytes that TFRecord puts before and behind each record: its length and checksums


def parts(subset: Subset) -> dict[str, Any]:
    """Inputs, labels and weights as structures of rows."""
    parts = dict(zip(PARTS, (subset.rows, subset.targets, subset.weights), strict=True))
    return {name: rows.parts if isinstance(rows, NestedRows) else rows for name, rows in parts.items()}


def fields_of(subset: Subset) -> dict[str, Rows]:
    """Name in the records -> rows."""
    found: dict[str, Rows] = {}

    def add(name: str, part: Any) -> None:
        if isinstance(part, NestedRows):
            part = part.parts
        if isinstance(part, dict | tuple):
            for key, value in part.items() if isinstance(part, dict) else enumerate(part):
                add(f"{name}/{key}", value)
        elif part is not None:
            found[name] = part

    for name, part in parts(subset).items():
        add(name, part)
    return found


def varies(subset: Subset) -> bool:
    """Whether any field has rows of varying length."""
    return any(None in rows.shape for rows in fields_of(subset).values())


def stored(rows: Rows, start: int, stop: int) -> Any:
    """Unscaled values of some rows, little-endian whatever the machine; those of varying length without padding."""
    little = rows.dtype.newbyteorder("<")
    if None in rows.shape:
        return (np.asarray(rows.raw(row)).astype(little, copy=False) for row in range(start, stop))
    values = rows.raw(slice(start, stop)).astype(little, copy=False)
    return (values[row, ...] for row in range(len(values)))  # arrays: a scalar string has no more bytes than it needs


def example_of(fields: dict[str, bytes]) -> bytes:
    import tensorflow as tf

    features = {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for name, value in fields.items()}
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def starts_of(example: bytes, fields: dict[str, Rows], values: Any, before: int) -> list[int]:
    """Where each field begins in a file, and how many steps it has; `before` is where its record begins."""
    found = []
    for (name, rows), value in zip(fields.items(), values, strict=True):
        # A field stands behind its name: tag 10 and length of the name, the name, tag 18 and the sizes of what follows.
        size = value.nbytes
        label = name.encode()
        at = example.index(b"\n" + _varint(len(label)) + label + b"\x12") + 1 + len(_varint(len(label))) + len(label)
        list_size = 1 + len(_varint(size)) + size
        at += 1 + len(_varint(1 + len(_varint(list_size)) + list_size)) + 1 + len(_varint(list_size))
        at += 1 + len(_varint(size))
        found += [before + at, len(value) if None in rows.shape else 1]
    return found


def _varint(number: int) -> bytes:
    """A number as Protocol Buffers write it: seven bits in each byte."""
    result = bytearray()
    while number > 127:
        result.append(number & 127 | 128)
        number >>= 7
    return bytes([*result, number])


def record_of(fields: list[Field], size: int) -> np.dtype:
    return np.dtype(
        {
            "names": [field.name for field in fields],
            "formats": [(np.dtype(field.dtype), tuple(field.shape)) for field in fields],
            "offsets": [FRAME[0] + field.offset for field in fields],
            "itemsize": sum(FRAME) + size,
        }
    )
