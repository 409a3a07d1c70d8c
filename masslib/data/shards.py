"""Subsets in TFRecord files, which any TensorFlow program can read, under a manifest that tells when one is damaged.

A record is a `tf.train.Example` with a byte string for each field, little-endian and as it is stored (unscaled): `x`,
`y` and `sample_weight`, or `x/image` and `x/words` where there are several. If all records are alike, the manifest says
where each field begins, else an index beside the file: a row is found without reading those before it.
Formats: https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from masslib._util.files import replacing
from masslib._util.manifest import checksum, write_sealed
from masslib._util.mapping import mapped
from masslib._util.remote import RemoteFile, at_hand, local_path, remote_url
from masslib.data.batches import whole
from masslib.data.rows import ArrayRows, NestedRows, Rows, nested
from masslib.data.shard_files import INDEX, MANIFEST, OURS, description_of, jobs_of, manifest_of, write_shard
from masslib.data.shard_records import PARTS, fields_of, record_of
from masslib.data.shard_rows import Field, RaggedShardRows, ShardRows
from masslib.data.shard_urls import remote_manifest, write_remote
from masslib.data.subset import Subset

_SMALL = 64  # bytes of a label or weight that is held in memory


def write_shards(subset: Subset, folder: str | os.PathLike[str], *, shards: int = 4, on: Any = None) -> Path | str:
    """Writes a `Subset` as TFRecord files of consecutive rows and a `manifest.json`.

    The folder appears whole or not at all. An older one that holds nothing but shards is replaced. The files are the
    same wherever they are written.

    Args:
        subset: the rows, of one or several fields; they are read 256 at a time and written as they are stored, without
            the scale.
        folder: a new, empty or older folder of shards; where others write, they must see it under this name. Or a URL
            that fsspec knows, such as `s3://bucket/shards`, whose settings it takes from the environment; needs the
            extra `remote`. Files there appear one by one, each whole, and the manifest, without which there are no
            shards, is the first to go and the last to come.
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
    shards, url, folder = whole("shards", shards, 1, len(subset)), remote_url(folder), local_path(folder)
    if url is not None:
        return write_remote(subset, url, shards, on)
    if folder.exists() and not _replaceable(folder):
        raise ValueError(f"{folder} holds other things than shards, which would be lost; expected a new folder.")
    with replacing(folder) as temporary:
        temporary.mkdir()
        jobs = jobs_of(subset, shards, str(temporary))
        files = [file for written in mapped(write_shard, jobs, on) for file in written]
        for path in temporary.iterdir():  # of a process that was killed while it wrote
            if path.name not in {file["name"] for file in files}:
                path.unlink()
        write_sealed(temporary / MANIFEST, description_of(subset) | {"files": files})
    return folder


def read_shards(
    folder: str | os.PathLike[str], *, cache: str | os.PathLike[str] | None = None, cache_bytes: int = 10 << 30
) -> Subset:
    """Opens what `write_shards` wrote, as a `Subset` that is equal to the bit.

    Every file is checked against the manifest. The inputs stay in the files and are read when they are needed, and so
    do labels and weights of more than 64 bytes per row.

    Args:
        folder: folder that `write_shards` made, or its URL, such as `s3://bucket/shards`, whose files are fetched, all
            of them once for small labels and weights, and later when rows are asked for.
        cache: folder for copies of files of URLs, which processes may share; by default `masslib` under the Keras home
            (`$KERAS_HOME`, else `~/.keras`).
        cache_bytes: what the copies may take together; those that were not used for longest are removed. Reading in
            random order, as training does, needs room for all files, or fetches them again and again.

    Returns:
        A `Subset` that reads the rows it is asked for.

    Raises:
        ValueError: the manifest or a shard is missing, damaged, cut short or in the place of another.

    Example:
        >>> read_shards("build/shards")  # doctest: +SKIP
        Subset(55000 rows of (28, 28, 1), uint8 x 0.003922 in 8 shards, labels int32, 10 classes)
    """
    if (url := remote_url(folder)) is None:
        folder = local_path(folder)
        manifest = manifest_of(folder)
        _verify(folder, manifest["files"])
        places: dict[str, Path | RemoteFile] = {file["name"]: folder / file["name"] for file in manifest["files"]}
    else:
        manifest = remote_manifest(url)
        home = Path(cache or Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "masslib")
        places = {
            file["name"]: RemoteFile(
                f"{url}/{file['name']}", file["sha256"], home, whole("cache_bytes", cache_bytes, 0)
            )
            for file in manifest["files"]
        }
    shards = [file for file in manifest["files"] if not file["name"].endswith(INDEX)]
    paths, counts = [places[file["name"]] for file in shards], [file["rows"] for file in shards]
    described = [Field(**field) for field in manifest["fields"]]
    if manifest["record_bytes"] is None:
        indices = [places[file["name"] + INDEX] for file in shards]
        index = np.concatenate([at_hand(place, partial(np.load, allow_pickle=False)) for place in indices])
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
    return folder.is_dir() and all(OURS.fullmatch(path.name) for path in folder.iterdir())


def _tuples(structure: Any, *, names: bool = False) -> Any:
    """A structure as JSON holds it: its lists are tuples, but for lists of the names of classes."""
    if isinstance(structure, dict):
        return {key: _tuples(part, names=names) for key, part in structure.items()}
    if isinstance(structure, list):
        if names and all(isinstance(name, str) for name in structure):
            return structure
        return tuple(_tuples(part, names=names) for part in structure)
    return structure


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
