"""Subsets in TFRecord files, which any TensorFlow program can read, under a manifest that tells when one is damaged.

A record is a `tf.train.Example` with a byte string for each field, little-endian and as it is stored (unscaled): `x`,
`y` and `sample_weight`, or `x/image` and `x/words` where there are several. If all records are alike, the manifest says
where each field begins, else an index beside the file: a row is found without reading those before it.
Formats: https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from masslib._util.files import replacing
from masslib._util.manifest import checksum, read_sealed, write_sealed
from masslib._util.mapping import mapped
from masslib.data.batches import whole
from masslib.data.rows import ArrayRows, NestedRows, Rows, nested
from masslib.data.shard_records import FRAME, PARTS, example_of, fields_of, parts, record_of, starts_of, stored, varies
from masslib.data.shard_rows import Field, RaggedShardRows, ShardRows
from masslib.data.subset import Subset

_MANIFEST, _INDEX = "manifest.json", ".index.npy"
_OURS = re.compile(r"manifest\.json|shard-\d{5,}-of-\d{5,}\.tfrecord(\.index\.npy)?")
_FIRST_FORMAT, _FORMAT = "masslib shards 1", "masslib shards 2"
_CHUNK = 256
_SMALL = 64  # bytes of a label or weight that is held in memory


def write_shards(subset: Subset, folder: str | os.PathLike[str], *, shards: int = 4, on: Any = None) -> Path:
    """Writes a `Subset` as TFRecord files of consecutive rows and a `manifest.json`.

    The folder appears whole or not at all. An older one that holds nothing but shards is replaced. The files are the
    same wherever they are written.

    Args:
        subset: the rows, of one or several fields; they are read 256 at a time and written as they are stored, without
            the scale.
        folder: a new, empty or older folder of shards; where others write, they must see it under this name.
        shards: how many files.
        on: who writes them, each a file at a time: None for this process, a `concurrent.futures.Executor`, a
            `SparkSession`, `"ray"` or the address of a Ray cluster, or anything that maps, `on(fn, jobs)`. A file that
            is written again or twice at the same time is none the worse.

    Returns:
        The folder.

    Raises:
        TypeError: `subset` is no Subset; `shards` is no integer; `on` cannot map.
        ValueError: fewer rows than shards; rows of Python objects, such as strings of any length; `folder` holds other
            things.

    Example:
        >>> import tempfile
        >>> from masslib.data import from_arrays
        >>> subset = from_arrays({"photo": np.zeros((6, 8, 8, 1), np.uint8), "age": range(6)}, [0, 1] * 3)
        >>> folder = write_shards(subset, tempfile.mkdtemp(), shards=2)
        >>> read_shards(folder).input_shape
        {'photo': (8, 8, 1), 'age': ()}
    """
    if not isinstance(subset, Subset):
        raise TypeError(f"subset is a {type(subset).__name__}, expected a Subset; make one with from_arrays(x, y).")
    for name, rows in fields_of(subset).items():
        if rows.dtype.kind not in "biufcSU":
            raise ValueError(
                f"{name} of {subset!r} has dtype {rows.dtype}, which a record cannot hold; expected numbers, or "
                "strings of a fixed length, as of array.astype(str)."
            )
    shards, folder = whole("shards", shards, 1, len(subset)), Path(folder)
    if folder.exists() and not _replaceable(folder):
        raise ValueError(f"{folder} holds other things than shards, which would be lost; expected a new folder.")
    bounds = np.linspace(0, len(subset), shards + 1).astype(int).tolist()
    with replacing(folder) as temporary:
        temporary.mkdir()
        names = [f"shard-{number:05}-of-{shards:05}.tfrecord" for number in range(shards)]
        jobs = [
            (subset.select(slice(start, stop)), str(temporary / name))
            for name, start, stop in zip(names, bounds, bounds[1:], strict=False)
        ]
        files = [file for written in mapped(write_shard, jobs, on) for file in written]
        for path in temporary.iterdir():  # of a process that was killed while it wrote
            if path.name not in {file["name"] for file in files}:
                path.unlink()
        write_sealed(temporary / _MANIFEST, _description(subset) | {"files": files})
    return folder


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
        index = target.with_name(target.name + _INDEX)
        with replacing(index) as path:
            np.save(path, np.array(starts, "<i8"))
        made.append(index)
    return [{"name": path.name, "rows": len(subset), "sha256": checksum(path)} for path in made]


def read_shards(folder: str | os.PathLike[str]) -> Subset:
    """Opens what `write_shards` wrote, as a `Subset` that is equal to the bit.

    Every file is checked against the manifest. The inputs stay in the files and are read when they are needed, and so
    do labels and weights of more than 64 bytes per row.

    Args:
        folder: folder that `write_shards` made.

    Returns:
        A `Subset` that reads the rows it is asked for.

    Raises:
        ValueError: the manifest or a shard is missing, damaged, cut short or in the place of another.

    Example:
        >>> read_shards("build/shards")  # doctest: +SKIP
        Subset(55000 rows of (28, 28, 1), uint8 x 0.003922 in 8 shards, labels int32, 10 classes)
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    _verify(folder, manifest["files"])
    shards = [file for file in manifest["files"] if not file["name"].endswith(_INDEX)]
    paths, counts = [folder / file["name"] for file in shards], [file["rows"] for file in shards]
    described = [Field(**field) for field in manifest["fields"]]
    if manifest["record_bytes"] is None:
        index = np.concatenate([np.load(path.with_name(path.name + _INDEX), allow_pickle=False) for path in paths])
    else:
        record = record_of(described, manifest["record_bytes"])

    def rows_of(number: int) -> Rows:
        field = described[number]
        if manifest["record_bytes"] is None:
            return RaggedShardRows(paths, counts, field, index[:, 2 * number], index[:, 2 * number + 1])
        return ShardRows(paths, counts, record, field)

    made: dict[str, Rows | None] = {}
    for part in PARTS:
        rows = nested(rows_of, _tuples(manifest["structure"].get(part)))
        if part != "x":
            rows = nested(_in_memory, rows)
        made[part] = NestedRows(rows) if isinstance(rows, dict | tuple) else rows
    classes = _tuples(manifest["classes"], names=True)
    return Subset(made["x"], made["y"], classes, made["sample_weight"])


def _in_memory(rows: Rows) -> Rows:
    """Small labels and weights, which are looked at as a whole, as an array."""
    if None in rows.shape or rows.dtype.itemsize * int(np.prod(rows.shape)) > _SMALL:
        return rows
    return ArrayRows(rows.raw(slice(None)), rows.scale)


def _replaceable(folder: Path) -> bool:
    """Whether nothing but shards would be lost; other folders have a manifest.json, too."""
    return folder.is_dir() and all(_OURS.fullmatch(path.name) for path in folder.iterdir())


def _description(subset: Subset) -> dict[str, Any]:
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


def _tuples(structure: Any, *, names: bool = False) -> Any:
    """A structure as JSON holds it: its lists are tuples, but for lists of the names of classes."""
    if isinstance(structure, dict):
        return {key: _tuples(part, names=names) for key, part in structure.items()}
    if isinstance(structure, list):
        if names and all(isinstance(name, str) for name in structure):
            return structure
        return tuple(_tuples(part, names=names) for part in structure)
    return structure


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
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


def _verify(folder: Path, files: list[dict[str, Any]]) -> None:
    owners = {file["sha256"]: file["name"] for file in files}
    for file in files:
        path = folder / file["name"]
        if not path.is_file():
            raise ValueError(f"{path} is missing, one of {len(files)} shards. Copy or write the folder again.")
        found = checksum(path)
        if found != file["sha256"]:
            wrong = f"holds what belongs into {owners[found]}" if found in owners else "is damaged or cut short"
            raise ValueError(
                f"{path} {wrong}: its SHA-256 is {found}, the manifest says {file['sha256']}. Copy or write the folder "
                "again."
            )
