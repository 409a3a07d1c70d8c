"""Photographs of the catalog: a zip of small JPEG files, and a table that names the kind, the side and the person."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from masslib._util.photos import Decoder
from masslib.data.arrays import from_arrays
from masslib.data.photos import PhotoRows, decoder
from masslib.data.rows import Index
from masslib.data.sources import Columns, Entry, File, Form
from masslib.data.subset import Subset

_MAX_PIXELS = 1_000_000


class StoredPhotos(PhotoRows):
    """Photos held in memory as the JPEG files they are, and decoded when they are read.

    Args:
        files: the bytes of each file.
        decode: makes an array of a file.
    """

    def __init__(self, files: Sequence[bytes] | np.ndarray, decode: Decoder) -> None:
        super().__init__(Path(), np.asarray(files, object), decode)

    def raw(self, rows: Index) -> np.ndarray:
        """Decodes some of the photos."""
        chosen = self._names[rows]
        if isinstance(chosen, bytes):
            return self.decoder(io.BytesIO(chosen))
        photos = np.empty((len(chosen), *self.shape), np.uint8)
        for k, data in enumerate(chosen):
            photos[k] = self.decoder(io.BytesIO(data))
        return photos

    def select(self, rows: slice | np.ndarray) -> StoredPhotos:
        """Some of the photos, without decoding them."""
        return StoredPhotos(self._names[rows], self.decoder)

    def resized(self, image_size: tuple[int, int]) -> StoredPhotos:
        """The same photos, decoded to another height and width."""
        return StoredPhotos(self._names, decoder(image_size, 3, "stretch", _MAX_PIXELS))

    def __repr__(self) -> str:
        return "photos in memory"


def resized(subset: Subset, image_size: tuple[int, int]) -> Subset:
    """A `Subset` of the catalog's photos in another size.

    Raises:
        ValueError: its rows are none of these.
    """
    if not isinstance(subset.rows, StoredPhotos):
        raise ValueError(f"image_size is {image_size!r}, but the rows are {subset.rows!r}; leave it out.")
    rows = subset.rows.resized(image_size)
    return Subset(rows, subset.targets, subset.classes, subset.weights, subset.lengths, subset.groups)


def read(paths: list[Path]) -> Columns:
    """Reads pairs of a zip and its table, one after the other.

    Args:
        paths: zip, table, and so on. The table has the columns file, class, split ("train" or "test") and who took the
            photo (`photographer` or `sender_id`); the zip holds each file of it.

    Returns:
        The columns set (0, 1, ... for the pairs), file, class, split, person, and the bytes of the JPEG files.

    Raises:
        ValueError: a zip is damaged or lacks a photo of its table.
    """
    columns = {name: [] for name in ("set", "file", "class", "split", "person", "photo")}
    for number in range(len(paths) // 2):
        archive, table = paths[2 * number : 2 * number + 2]
        with table.open(encoding="utf-8", newline="") as stream:
            lines = list(csv.DictReader(stream))
        try:
            with zipfile.ZipFile(archive) as photos:
                columns["photo"] += [photos.read(line["file"]) for line in lines]
        except (zipfile.BadZipFile, KeyError) as error:
            raise ValueError(f"{archive} is damaged, or not the archive that {table} describes: {error}") from error
        person = "photographer" if "photographer" in lines[0] else "sender_id"
        columns["set"] += [str(number)] * len(lines)
        columns["person"] += [line[person] for line in lines]
        for name in ("file", "class", "split"):
            columns[name] += [line[name] for line in lines]
    return columns


def kinds(columns: Columns, classes: tuple[str, ...]) -> tuple[Subset, Subset]:
    """Train and test rows of the photos whose class is one of `classes`; the others are left out."""
    numbers = {name: number for number, name in enumerate(classes)}
    return _parts(columns, [numbers.get(name, -1) for name in columns["class"]], classes)


def sets(columns: Columns, classes: tuple[str, ...]) -> tuple[Subset, Subset]:
    """Train and test rows whose classes are the pairs of files: the first pair has the last class, and so on."""
    return _parts(columns, [len(classes) - 1 - int(number) for number in columns["set"]], classes)


def _parts(columns: Columns, labels: list[int], classes: tuple[str, ...]) -> tuple[Subset, Subset]:
    y, split = np.array(labels, np.int32), np.array(columns["split"])
    people = np.array([f"{number}/{who}" for number, who in zip(columns["set"], columns["person"], strict=True)])
    decode = decoder((96, 96), 3, "stretch", _MAX_PIXELS)
    photos = StoredPhotos(columns["photo"], decode)

    def part(name: str) -> Subset:
        rows = np.flatnonzero((split == name) & (y >= 0))
        return from_arrays(photos.select(rows), y[rows], classes=list(classes)).with_groups(people[rows])

    return part("train"), part("test")


_TOOL = "tools/prepare_photos.py"
_FLOWERS = tuple(
    File(f"photos_flowers/{name}", None, origin=f"{_TOOL} flowers, which makes it of TensorFlow's flower_photos.tgz")
    for name in ("flowers96.zip", "ATTRIBUTION.csv")
)
_CLOTHING = tuple(
    File(f"photos_clothing/{name}", None, origin=f"{_TOOL} clothing, which makes it of Grigorev's clothing-dataset")
    for name in ("clothing96.zip", "labels.csv")
)
_CACHE = "datasets"
_GARMENTS = "dress,hat,longsleeve,outwear,pants,shirt,shoes,shorts,skirt,t-shirt"

ENTRIES = (
    Entry(
        "flowers",
        ("daisy", "dandelion", "roses", "sunflowers", "tulips"),
        (),
        _CACHE,
        kinds,
        0.1,
        forms=(Form(_FLOWERS, read),),
        sha256="4efb2fa534fff5ca66bdb73213e7fdb1805d2f239f329a4bf41ca1ca958810ce",
        by="groups",
    ),
    Entry(
        "clothing",
        tuple(_GARMENTS.split(",")),
        (),
        _CACHE,
        kinds,
        0.1,
        forms=(Form(_CLOTHING, read),),
        sha256="2d4d2b9afe11c0519aa58f64825be053f71934899b2b5ae5c4844c267d344bff",
        by="groups",
    ),
    Entry(
        "garden",
        ("unwanted", "wanted"),
        (),
        _CACHE,
        sets,
        0.1,
        forms=(Form((*_FLOWERS, *_CLOTHING), read),),
        sha256="1e367c4593cef423f5e6e84a745205cbb57847b612dcf2aee274cd04f916747a",
        by="groups",
    ),
)
