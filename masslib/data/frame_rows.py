"""Rows of Spark, Ray or pandas on their way to shards: what the tasks of an engine do with their pieces."""

from __future__ import annotations

import hashlib
import io
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from masslib._util.photos import Decoder
from masslib.data.frame_columns import PHOTO, TEXT, columns_in, library_of
from masslib.data.photos import attempt
from masslib.data.rows import ArrayRows, NestedRows
from masslib.data.shard_files import description_of, write_shard
from masslib.data.subset import Subset

_PIECE_BYTES = 64 << 20


@dataclass
class Written:
    """What a task reports of one piece.

    Attributes:
        files: as in the manifest of shards; none if no row could be read.
        description: the rest of it.
        hashes: `(n, 2)` the hash of each row.
        units: `(n,)` that of what must stay together.
        labels: column -> `(n,)` its values.
        skipped: key -> reason.
        problem: what is wrong with a row that cannot be skipped.
    """

    files: list[dict[str, Any]] = field(default_factory=list)
    description: dict[str, Any] = field(default_factory=dict)
    hashes: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.uint64))
    units: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True)
class Plan:
    """Which columns become what.

    Attributes:
        kinds: column -> PHOTO, TEXT or a NumPy type.
        x: structure of columns.
        y: likewise.
        returned: columns of labels and weights, which the tasks send back.
        key: column.
        groups: column.
        decode: makes arrays of photos.
    """

    kinds: Mapping[str, str]
    x: Any
    y: Any
    returned: tuple[str, ...]
    key: str | None
    groups: str | None
    decode: Decoder | None

    @classmethod
    def of(
        cls, kinds: Mapping[str, str | None], *, x: Any, y: Any, sample_weight: Any, decode: Any, **rest: Any
    ) -> Plan:
        """Check what was asked for against the columns there are."""
        inputs, returned = columns_in(x), dict.fromkeys([*columns_in(y), *columns_in(sample_weight)])
        if not inputs:
            raise ValueError("x names no column, expected at least one.")
        others = [name for name in rest.values() if name is not None]
        used = dict.fromkeys([*inputs, *returned, *others])
        for name in used:
            if name not in kinds:
                raise ValueError(f"{name!r} is no column; there are {list(kinds)}.")
        for name in inputs:
            if kinds[name] in (None, TEXT):
                raise TypeError(
                    f"column {name!r} holds {kinds[name] or 'objects'}, expected numbers, arrays of numbers, or photos "
                    "as bytes; turn it into numbers first, e.g. with a StringIndexer."
                )
        photos = [name for name in inputs if kinds[name] == PHOTO]
        if photos and decode is None:
            raise ValueError(f"column {photos[0]!r} holds bytes, which are photos; pass image_size=(height, width).")
        if isinstance(x, list) and photos:
            raise ValueError(f"x is {x}, with photos in {photos[0]!r}; a list is of columns of numbers, pass a dict.")
        wrong = [name for name in returned if kinds[name] in (None, PHOTO)]
        if wrong:
            raise TypeError(f"column {wrong[0]!r} of y or sample_weight holds neither numbers nor text.")
        return cls({name: kinds[name] for name in used}, x, y, tuple(returned), decode=decode, **rest)

    @staticmethod
    def engine(frame: Any) -> Any:
        """Who writes shards for a frame, as `on` of `write_shards`."""
        return {"pyspark": lambda: frame.sparkSession, "ray": lambda: "ray"}.get(library_of(frame), lambda: None)()


def written(frame: Any, plan: Plan, folder: str) -> list[Written]:
    """Write the rows of a frame where they lie, as files of shards in no order."""
    names = list(plan.kinds)
    match library_of(frame):
        case "pyspark":
            chosen = frame.select(*(f"`{name}`" for name in names))
            made = chosen.rdd.mapPartitions(partial(_of_partition, names, plan, folder)).collect()
        case "ray":
            pieces = frame.select_columns(names).map_batches(
                partial(_of_batch, plan, folder), batch_size=None, batch_format="pandas"
            )
            made = [row["piece"] for row in pieces.take_all()]
        case _:
            made = _of_records(plan, folder, _records(frame))
    for piece in made:
        if piece.problem:
            raise ValueError(piece.problem)
    return made


def _records(frame: Any) -> Iterator[dict[str, Any]]:
    names = list(frame.columns)
    return (dict(zip(names, row, strict=True)) for row in frame.itertuples(index=False, name=None))


def _of_partition(names: list[str], plan: Plan, folder: str, rows: Iterable[Any]) -> list[Written]:
    """A task of Spark."""
    return _of_records(plan, folder, (dict(zip(names, row, strict=True)) for row in rows))


def _of_batch(plan: Plan, folder: str, batch: Any) -> dict[str, Any]:
    """A task of Ray."""
    return {"piece": np.array(_of_records(plan, folder, _records(batch)), object)}


def _of_records(plan: Plan, folder: str, records: Iterable[dict[str, Any]]) -> list[Written]:
    """What an engine brings back; a wrong row as well, for it would be wrong in every attempt."""
    try:
        return list(_pieces(plan, folder, records))
    except ValueError as error:
        return [Written(problem=str(error))]


def _pieces(plan: Plan, folder: str, records: Iterable[dict[str, Any]]) -> Iterator[Written]:
    """Decode rows and write them, some megabytes in each file."""
    rows: list[tuple[Any, ...]] = []
    skipped: dict[str, str] = {}
    size = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's doubts about files; what it cannot read is reported
        for record in records:
            values = {name: _value(plan, name, record[name]) for name in dict.fromkeys(columns_in(plan.x))}
            reason = next((value for value in values.values() if isinstance(value, str)), None)
            own = _told(plan, record, values)
            if reason:
                skipped[own if plan.key else f"row {own}"] = reason
                continue
            labels = {name: _present(name, record[name]) for name in plan.returned}
            rows.append((values, own, labels, _text(plan, plan.groups, record)))
            size += sum(value.nbytes for value in values.values())
            if size >= _PIECE_BYTES:
                yield _piece(plan, folder, rows, skipped)
                rows, skipped, size = [], {}, 0
    if rows or skipped:
        yield _piece(plan, folder, rows, skipped)


def _piece(plan: Plan, folder: str, rows: list[Any], skipped: dict[str, str]) -> Written:
    if not rows:
        return Written(skipped=skipped)
    subset = Subset(_arranged(plan.x, lambda given: _field(plan, given, [row[0] for row in rows])), None)
    # A name of its own each time: an engine may run a task again, or twice.
    files = write_shard((subset, str(Path(folder) / f"piece-{uuid.uuid4().hex}.tfrecord")))
    hashes = np.array([_hash(row[1]) for row in rows], np.uint64)
    units = hashes[:, 0] if plan.groups is None else np.array([_hash(row[3])[0] for row in rows], np.uint64)
    labels = {name: np.array([row[2][name] for row in rows], _returned(plan.kinds[name])) for name in plan.returned}
    return Written(files, description_of(subset), hashes, units, labels, skipped)


def _value(plan: Plan, name: str, value: Any) -> np.ndarray | str:
    """A value of an input as an array, or the reason why there is none."""
    if plan.kinds[name] == PHOTO:
        if not value:
            return "empty"
        array, reason = attempt(io.BytesIO(value), plan.decode)
        return array if reason is None else reason
    kind = np.dtype(plan.kinds[name])
    if kind.kind == "f":
        return _array(np.nan if value is None else value, np.dtype(np.float32))
    return _array(_present(name, value), kind)


def _array(value: Any, kind: np.dtype) -> np.ndarray:
    """Numbers, or lists or arrays of objects that hold such, as pandas makes them of columns of matrices."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = [_array(part, kind) for part in value]
    return np.asarray(value, kind)


def _field(plan: Plan, given: Any, values: list[dict[str, np.ndarray]]) -> ArrayRows:
    if isinstance(given, list):
        return ArrayRows(np.array([[row[name] for name in given] for row in values]))
    shapes = {row[given].shape for row in values}
    if len(shapes) > 1:
        raise ValueError(
            f"column {given!r} has rows of shape {sorted(shapes)[:2]}, expected one shape; cut or pad them."
        )
    return ArrayRows(np.stack([row[given] for row in values]), 1 / 255 if plan.kinds[given] == PHOTO else None)


def _arranged(given: Any, change: Callable[[Any], Any]) -> Any:
    """Rows of several fields, or of one."""
    if isinstance(given, dict):
        return NestedRows({key: _inner(part, change) for key, part in given.items()})
    return change(given)


def _inner(given: Any, change: Callable[[Any], Any]) -> Any:
    return {key: _inner(part, change) for key, part in given.items()} if isinstance(given, dict) else change(given)


def _told(plan: Plan, record: dict[str, Any], values: dict[str, Any]) -> str:
    """What tells a row apart: its key, else a hash of all that it holds."""
    if plan.key is not None:
        return _text(plan, plan.key, record)
    digest = hashlib.blake2b(digest_size=16)
    for name, value in values.items():
        digest.update(value.tobytes() if isinstance(value, np.ndarray) else bytes(record[name] or b""))
    for name in plan.kinds:
        if name not in values:
            digest.update(repr(_text(plan, name, record)).encode())
    return digest.hexdigest()


def _present(name: str, value: Any) -> Any:
    if value is None or (np.ndim(value) == 0 and value != value):
        raise ValueError(f"column {name!r} misses a value; fill it, or leave the row out, before it is written.")
    return value


def _text(plan: Plan, name: str | None, record: dict[str, Any]) -> str:
    """A value in the words of every engine."""
    if name is None:
        return ""
    value, kind = _present(name, record[name]), plan.kinds[name]
    if kind in (None, TEXT, PHOTO):
        return str(value)
    return str(np.asarray(value, kind)[()])


def _hash(text: str) -> tuple[int, int]:
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")


def _returned(kind: str) -> Any:
    return object if kind == TEXT else np.float32 if np.dtype(kind).kind == "f" else np.dtype(kind)
