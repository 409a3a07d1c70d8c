"""Subsets in TFRecord files, which any TensorFlow program can read, under a manifest that tells when one is damaged.

A record is a `tf.train.Example` of two byte strings, little-endian: `x`, the row as it is stored (unscaled), and `y`,
its label. All records of a set have one length, so a row can be found without reading those before it.
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
from masslib.data.batches import whole
from masslib.data.rows import Index, Rows
from masslib.data.subset import Subset

_MANIFEST = "manifest.json"
_OURS = re.compile(r"manifest\.json|shard-\d{5,}-of-\d{5,}\.tfrecord")
_FORMAT = "masslib shards 1"
_FRAME = 12, 4  # bytes that TFRecord puts before and behind each record: its length and checksums
_CHUNK = 256


def write_shards(subset: Subset, folder: str | os.PathLike[str], *, shards: int = 4) -> Path:
    """Writes a `Subset` as TFRecord files of consecutive rows and a `manifest.json`.

    The folder appears whole or not at all. An older one that holds nothing but shards is replaced.

    Args:
        subset: the rows; they are read 256 at a time and written as they are stored, without the scale.
        folder: a new, empty or older folder of shards.
        shards: how many files.

    Returns:
        The folder.

    Raises:
        TypeError: `subset` is no Subset; `shards` is no integer.
        ValueError: fewer rows than shards; rows of text, without labels or of several arrays; `folder` holds other
            things.

    Example:
        >>> import tempfile
        >>> from masslib.data import from_arrays
        >>> subset = from_arrays(np.zeros((6, 8, 8, 1), np.uint8), [0, 1] * 3)
        >>> folder = write_shards(subset, tempfile.mkdtemp(), shards=2)
        >>> read_shards(folder)
        Subset(6 rows of (8, 8, 1), uint8 x 0.003922 in 2 shards, labels int64)
    """
    if not isinstance(subset, Subset):
        raise TypeError(f"subset is a {type(subset).__name__}, expected a Subset; make one with from_arrays(x, y).")
    for name, values in (("x", getattr(subset.rows, "dtype", None)), ("y", getattr(subset.y, "dtype", None))):
        if not isinstance(values, np.dtype) or values.kind not in "biuf":
            raise ValueError(f"{name} of {subset!r} is not one array of numbers, which is all that a record can hold.")
    shards, folder = whole("shards", shards, 1, len(subset)), Path(folder)
    if folder.exists() and not _replaceable(folder):
        raise ValueError(f"{folder} holds other things than shards, which would be lost; expected a new folder.")
    bounds = np.linspace(0, len(subset), shards + 1).astype(int).tolist()
    with replacing(folder) as temporary:
        temporary.mkdir()
        files = []
        for number, (start, stop) in enumerate(zip(bounds, bounds[1:], strict=False)):
            path = temporary / f"shard-{number:05}-of-{shards:05}.tfrecord"
            _write(subset, start, stop, path)
            files.append({"name": path.name, "rows": stop - start, "sha256": checksum(path)})
        write_sealed(temporary / _MANIFEST, _description(subset) | {"files": files})
    return folder


def _replaceable(folder: Path) -> bool:
    """Whether nothing but shards would be lost; other folders have a manifest.json, too."""
    return folder.is_dir() and all(_OURS.fullmatch(path.name) for path in folder.iterdir())


def read_shards(folder: str | os.PathLike[str]) -> Subset:
    """Opens what `write_shards` wrote, as a `Subset` that is equal to the bit.

    Every file is checked against the manifest. The inputs stay in the files and are read when they are needed.

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
    record = _record(manifest)
    paths = [folder / file["name"] for file in manifest["files"]]
    labels = np.concatenate([np.memmap(path, record, "r")["y"] for path in paths])
    rows = ShardRows(paths, [file["rows"] for file in manifest["files"]], record, _scale(manifest))
    return Subset(rows, labels.astype(labels.dtype.newbyteorder("=")), manifest["classes"])


class ShardRows(Rows):
    """Rows in files of records of one length; in memory are the names of the files.

    Args:
        paths: the files.
        counts: how many records each one has.
        record: NumPy type of a record, with the field "x".
        scale: float32 factor applied to every value that is read.
        rows: `(n,)` which of all the records, in this order; by default all.
    """

    def __init__(
        self, paths: list[Path], counts: list[int], record: np.dtype, scale: float, rows: np.ndarray | None = None
    ) -> None:
        values, shape = record["x"].subdtype
        super().__init__(shape, values.newbyteorder("="), scale)
        self._paths, self._counts, self._record = paths, counts, record
        self._ends = np.cumsum(counts)
        self._rows = np.arange(sum(counts)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def raw(self, rows: Index) -> np.ndarray:
        """Reads some of the rows."""
        chosen = np.atleast_1d(self._rows[rows])
        result = np.empty((len(chosen), *self.shape), self.dtype)
        shards = np.searchsorted(self._ends, chosen, side="right")
        for shard in np.unique(shards):
            here = shards == shard
            # Opened anew each time: a map that stays open counts as memory, and cannot be sent to another process.
            records = np.memmap(self._paths[shard], self._record, "r")
            result[here] = records["x"][chosen[here] - (self._ends[shard] - self._counts[shard])]
        return result if np.ndim(self._rows[rows]) else result[0]

    def select(self, rows: slice | np.ndarray) -> ShardRows:
        """Some of the rows, without reading them."""
        return ShardRows(self._paths, self._counts, self._record, self.scale, self._rows[rows])

    def __repr__(self) -> str:
        return f"{super().__repr__()} in {len(self._paths)} shards"


def _description(subset: Subset) -> dict[str, Any]:
    """The manifest but for the files: enough to read the records with or without masslib."""
    x, y = _stored(subset, slice(0, 1))
    # Where x and y begin in a record: the first bytes to change when they do.
    zero, changed_x, changed_y = (
        np.frombuffer(_example(bytes([a]) * x.nbytes, bytes([b]) * y.nbytes), np.uint8)
        for a, b in ((0, 0), (255, 0), (0, 255))
    )
    return {
        "format": _FORMAT,
        "rows": len(subset),
        "x": {"dtype": x.dtype.str, "shape": x.shape[1:], "offset": int((zero != changed_x).argmax())},
        "y": {"dtype": y.dtype.str, "shape": y.shape[1:], "offset": int((zero != changed_y).argmax())},
        "record_bytes": len(zero),
        "scale": 1.0 if subset.rows.scale is None else float(subset.rows.scale),
        "classes": subset.classes,
    }


def _write(subset: Subset, start: int, stop: int, path: Path) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for first in range(start, stop, _CHUNK):
            x, y = _stored(subset, slice(first, min(first + _CHUNK, stop)))
            for k in range(len(x)):
                writer.write(_example(x[k].tobytes(), y[k].tobytes()))


def _stored(subset: Subset, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """Unscaled inputs and labels, little-endian whatever the machine."""
    return tuple(v.astype(v.dtype.newbyteorder("<"), copy=False) for v in (subset.rows.raw(rows), subset.y[rows]))


def _example(x: bytes, y: bytes) -> bytes:
    import tensorflow as tf

    features = {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v])) for name, v in (("x", x), ("y", y))}
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def _record(manifest: dict[str, Any]) -> np.dtype:
    fields = [manifest["x"], manifest["y"]]
    return np.dtype(
        {
            "names": ["x", "y"],
            "formats": [(np.dtype(field["dtype"]), tuple(field["shape"])) for field in fields],
            "offsets": [_FRAME[0] + field["offset"] for field in fields],
            "itemsize": sum(_FRAME) + manifest["record_bytes"],
        }
    )


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    manifest = read_sealed(path)
    if manifest.get("format") != _FORMAT:
        raise ValueError(
            f"{path} has format {manifest.get('format')!r}, expected {_FORMAT!r}. Use the masslib it is from."
        )
    return manifest


def _scale(manifest: dict[str, Any]) -> float | None:
    scaled = manifest["scale"] != 1 or np.dtype(manifest["x"]["dtype"]) == np.float16
    return manifest["scale"] if scaled else None


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
