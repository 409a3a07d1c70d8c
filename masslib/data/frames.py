"""`write_shards_from`: rows that lie in Spark, Ray or pandas become shards of train, validation and test rows."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from masslib._util.files import replacing
from masslib._util.manifest import write_sealed
from masslib._util.remote import local_path, remote_url
from masslib.data._split import sides_by_hash
from masslib.data.directory import summary
from masslib.data.frame_columns import columns_of
from masslib.data.frame_rows import Plan, Written, written
from masslib.data.photos import decoder
from masslib.data.rows import NestedRows
from masslib.data.shards import read_shards, write_shards
from masslib.data.splits import Splits
from masslib.data.table import from_dataframe

PARTS = ("train", "valid", "test")
_FORMAT, _ROWS = "masslib splits 1", "rows"


def write_shards_from(
    frame: Any,
    folder: str | os.PathLike[str],
    *,
    x: Any,
    y: Any = None,
    sample_weight: str | None = None,
    classes: Sequence[str] | None = None,
    key: str | None = None,
    groups: str | None = None,
    valid: int | float = 0.1,
    test: int | float = 0.2,
    seed: int = 0,
    shards: int = 4,
    image_size: tuple[int, int] | None = None,
    channels: int = 3,
    resize: str = "stretch",
    max_pixels: int = 64_000_000,
) -> Splits:
    """Writes rows of Spark, Ray or pandas as shards, split into train, validation and test rows.

    Whoever holds the rows decodes and writes them, once; here only their labels and 24 bytes of each arrive. A
    row goes where the hash of its key says, within its class where the labels are classes, so the files are the same,
    byte for byte, from every engine, in whatever order and in how many pieces the rows come.

    Args:
        frame: a Spark `DataFrame`, a `ray.data.Dataset` or a `pandas.DataFrame`. Photos are columns of bytes, as
            Spark's `binaryFile` and `ray.data.read_binary_files` give them (Spark passes over empty files without a
            word).
        folder: becomes a folder of shards for each part, `train`, `valid` and `test`, for `read_shards`; the tasks of
            an engine must see it under this name. An older one of this kind is replaced.
        x: the inputs: a column; a list of columns of numbers, side by side; or a dict of either. A column holds
            numbers, arrays of one shape, or photos. Floats become float32.
        y: the labels: a column of numbers or text, a list or a dict, as in `from_dataframe`.
        sample_weight: a column of weights.
        classes: names of the classes, as in `from_dataframe`.
        key: a column that tells the rows apart, such as the path of a photo; by default a row is told by what it holds.
        groups: a column that says what each row belongs to, such as a patient: no group is on two sides.
        valid: validation rows: an int, or a fraction of all; each class in proportion.
        test: test rows, likewise.
        seed: of the split, 0 to 2**32 - 1.
        shards: how many files each part has.
        image_size: height and width of photos, in pixels.
        channels: of photos: 1 for grey, 3 for colour.
        resize: of photos, as in `from_directory`.
        max_pixels: of photos, likewise.

    Returns:
        The `Splits`, read from the files. Its `skipped` tells by their keys the photos that cannot be read, and why.

    Raises:
        TypeError: `frame` is none of these, or a column holds what no shard can.
        ValueError: there is no such column, values are missing, arrays differ in shape, a key comes twice, a class has
            rows for less than three sides, `folder` is a URL, or an argument is out of range.

    Example:
        >>> import pandas, tempfile
        >>> frame = pandas.DataFrame({"id": range(100), "heat": np.linspace(0, 1, 100), "fit": ["no", "yes"] * 50})
        >>> write_shards_from(frame, tempfile.mkdtemp(), x={"heat": "heat"}, y="fit", key="id", shards=2)
        Splits(train=70, valid=10, test=20, classes=['no', ...])
    """
    if remote_url(folder) is not None:
        raise ValueError(f"folder is {folder!r}, expected a path that all tasks see; copy the shards from there.")
    folder = local_path(folder)
    decode = None if image_size is None else decoder(image_size, channels, resize, max_pixels)
    plan = Plan.of(columns_of(frame), x=x, y=y, sample_weight=sample_weight, key=key, groups=groups, decode=decode)
    with replacing(folder) as temporary:
        rows = temporary / _ROWS
        rows.mkdir(parents=True)
        pieces = written(frame, plan, str(rows))
        skipped = dict(sorted(item for piece in pieces for item in piece.skipped.items()))
        pieces = [piece for piece in pieces if piece.files]
        if not pieces:
            raise ValueError(
                f"none of {len(skipped)} rows can be read; the first: {next(iter(skipped.items()), None)}."
            )
        _join(rows, pieces)
        subset = _labelled(rows, plan, pieces, sample_weight, classes)
        hashes, units = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("hashes", "units"))
        order = np.lexsort((hashes[:, 1], hashes[:, 0]))
        _check_unlike(hashes[order], key)
        side = sides_by_hash(units, subset.y, valid, test, seed)
        for number, part in enumerate(PARTS):
            chosen = subset.select(order[side[order] == number])
            write_shards(chosen, temporary / part, shards=shards, on=plan.engine(frame))
        shutil.rmtree(rows)
        files = sorted(path.relative_to(temporary).as_posix() for path in temporary.rglob("*") if path.is_file())
        write_sealed(temporary / "manifest.json", {"format": _FORMAT, "files": files, "skipped": skipped})
    if skipped:
        warnings.warn(summary(frame_name(frame), len(subset) + len(skipped), skipped, "rows"), stacklevel=2)
    train, aside, held_out = (read_shards(folder / part) for part in PARTS)
    return Splits(train, aside, held_out, train.classes, skipped=skipped)


def frame_name(frame: Any) -> str:
    """What messages call it."""
    return f"the {type(frame).__module__.partition('.')[0]} {type(frame).__name__}"


def _join(folder: Path, pieces: list[Written]) -> None:
    """Make one folder of shards of what the tasks have written."""
    first = pieces[0].description
    for piece in pieces:
        for field, other in zip(first["fields"], piece.description["fields"], strict=True):
            if field != other:
                raise ValueError(
                    f"{field['name']} has rows of shape {tuple(field['shape'])} and {tuple(other['shape'])}, expected "
                    "one shape; cut or pad them."
                )
    files = [file for piece in pieces for file in piece.files]
    write_sealed(folder / "manifest.json", first | {"rows": sum(len(piece.hashes) for piece in pieces), "files": files})


def _labelled(folder: Path, plan: Plan, pieces: list[Written], sample_weight: Any, classes: Any) -> Any:
    """The rows that were written with their labels and weights, which came back."""
    import pandas

    rows = read_shards(folder).rows
    columns = {name: np.concatenate([piece.labels[name] for piece in pieces]) for name in plan.returned}
    table = pandas.DataFrame(columns, index=range(len(rows)))
    x = rows.parts if isinstance(rows, NestedRows) else rows
    return from_dataframe(table, plan.y, x=x, sample_weight=sample_weight, classes=classes)


def _check_unlike(hashes: np.ndarray, key: str | None) -> None:
    twice = np.all(hashes[1:] == hashes[:-1], axis=1).sum()
    if twice and key is not None:
        raise ValueError(
            f"{key!r} has {twice} values that come more than once, expected one for each row; pass a column that tells "
            "the rows apart, or none."
        )
