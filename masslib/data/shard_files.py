"""The files of `write_shards`: how one is written, and what their manifest says."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np

from masslib._util.files import replacing
from masslib._util.manifest import checksum, read_sealed
from masslib.data.rows import nested
from masslib.data.shard_records import FRAME, example_of, fields_of, parts, starts_of, stored, varies
from masslib.data.subset import Subset

MANIFEST, INDEX = "manifest.json", ".index.npy"
OURS = re.compile(r"manifest\.json|shard-\d{5,}-of-\d{5,}\.tfrecord(\.index\.npy)?")
_FIRST_FORMAT, _FORMAT = "masslib shards 1", "masslib shards 2"
_CHUNK = 256


def jobs_of(subset: Subset, shards: int, place: str) -> list[tuple[Subset, str]]:
    """The rows and the path or URL of each file."""
    bounds = np.linspace(0, len(subset), shards + 1).astype(int).tolist()
    return [
        (subset.select(slice(start, stop)), f"{place}/shard-{number:05}-of-{shards:05}.tfrecord")
        for number, (start, stop) in enumerate(itertools.pairwise(bounds))
    ]


def write_shard(job: tuple[Subset, str]) -> list[dict[str, Any]]:
    """Writes one file, whole or not at all, and its index if rows vary in length.

    Args:
        job: the rows of the file, and its path.

    Returns:
        What the manifest says of each file: `name`, `rows`, `sha256`.
    """
    import tensorflow as tf

    subset, target = job[0], Path(job[1])
    fields, starts = fields_of(subset), []
    with replacing(target) as path:
        end = 0
        with tf.io.TFRecordWriter(str(path)) as writer:
            for first in range(0, len(subset), _CHUNK):
                chunk = [list(stored(rows, first, min(first + _CHUNK, len(subset)))) for rows in fields.values()]
                for values in zip(*chunk, strict=True):
                    example = example_of({name: value.tobytes() for name, value in zip(fields, values, strict=True)})
                    writer.write(example)
                    if varies(subset):
                        starts.append(starts_of(example, fields, values, end + FRAME[0]))
                    end += sum(FRAME) + len(example)
    made = [target]
    if starts:
        index = target.with_name(target.name + INDEX)
        with replacing(index) as path:
            np.save(path, np.array(starts, "<i8"))
        made.append(index)
    return [{"name": path.name, "rows": len(subset), "sha256": checksum(path)} for path in made]


def description_of(subset: Subset) -> dict[str, Any]:
    """The manifest but for the files: enough to read the records with or without masslib."""
    fields = fields_of(subset)
    numbers = iter(range(len(fields)))
    described = [
        {
            "name": name,
            "dtype": rows.dtype.newbyteorder("<").str,
            "shape": list(rows.shape),
            "scale": None if rows.scale is None else float(rows.scale),
            "pad": getattr(rows, "pad", 0),
            "offset": None,
        }
        for name, rows in fields.items()
    ]
    size = None
    if not varies(subset):
        values = [next(stored(rows, 0, 1)) for rows in fields.values()]
        example = example_of({name: value.tobytes() for name, value in zip(fields, values, strict=True)})
        size, starts = len(example), starts_of(example, fields, values, 0)
        for number, field in enumerate(described):
            field["offset"] = starts[2 * number]
    return {
        "format": _FORMAT,
        "rows": len(subset),
        "fields": described,
        "structure": {name: nested(lambda _: next(numbers), part) for name, part in parts(subset).items()},
        "record_bytes": size,
        "classes": subset.classes,
    }


def manifest_of(folder: Path) -> dict[str, Any]:
    """Reads the manifest of a folder, of any format that there was."""
    path = folder / MANIFEST
    manifest = read_sealed(path)
    if manifest.get("format") == _FIRST_FORMAT:  # one input and one label
        fields = [{**manifest[name], "name": name, "scale": None, "pad": 0} for name in ("x", "y")]
        fields[0]["scale"] = None if manifest["scale"] == 1 else manifest["scale"]
        return manifest | {"fields": fields, "structure": {"x": 0, "y": 1}}
    if manifest.get("format") != _FORMAT:
        raise ValueError(
            f"{path} has format {manifest.get('format')!r}, expected {_FORMAT!r}. Use the masslib it is from."
        )
    return manifest
