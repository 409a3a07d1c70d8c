"""Read IDX files, the format of MNIST and its relatives, plain or gzipped.

A header of big-endian numbers (two zero bytes, a type, the number of dimensions, then one 4-byte size per
dimension) is followed by the values. Format: Yann LeCun's MNIST page, http://yann.lecun.com/exdb/mnist/.
Every error names the file and the byte at which it stands, counted in the unzipped stream.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CHUNK = 1 << 20
# deflate codes at most 258 bytes in 2 bits, so no gzip file grows by more than this factor.
_MAX_EXPANSION = 1032


def read(path: str | os.PathLike[str], *, ndim: int | None = None) -> np.ndarray:
    """Reads one IDX file; whether it is gzipped is told from its first bytes, not from its name.

    Args:
        path: the file.
        ndim: the number of dimensions the file must have, e.g. 3 for images, 1 for labels.

    Returns:
        An array of the shape in the header, in the machine's byte order; `uint8` for MNIST.

    Raises:
        ValueError: the file is no IDX file, is damaged, too short, too long, or has other dimensions.

    Example:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "labels-idx1-ubyte"
        >>> _ = file.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
        >>> read(file)
        array([7, 9], dtype=uint8)
    """
    path = Path(path)
    with _open(path) as stream, _damage_named(path, stream):
        dtype, shape = _header(path, stream, ndim)
        return _body(path, stream, dtype, shape)


def read_pair(
    images: str | os.PathLike[str], labels: str | os.PathLike[str], *, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Reads images and their labels and checks that they belong together.

    Args:
        images: IDX file of 3 dimensions.
        labels: IDX file of 1 dimension.
        classes: the number of classes; labels are 0 to `classes - 1`.

    Returns:
        `(n, h, w)` images and `(n,)` labels.

    Raises:
        ValueError: as `read`; unequal counts; a label out of range.

    Example:
        >>> read_pair("images-idx3-ubyte.gz", "labels-idx1-ubyte.gz", classes=10)  # doctest: +SKIP
    """
    x, y = read(images, ndim=3), read(labels, ndim=1)
    if len(x) != len(y):
        raise ValueError(
            f"{images} holds {len(x)} images but {labels} holds {len(y)} labels (both counts stand at byte "
            "4), expected as many. Use the two files of one set."
        )
    wrong = np.flatnonzero((y < 0) | (y >= classes))
    if len(wrong):
        first = int(wrong[0])
        offset = 8 + first * y.dtype.itemsize
        raise ValueError(
            f"{labels}: label {y[first]} at byte {offset} (row {first}), expected 0 to {classes - 1}; "
            f"{len(wrong)} labels are out of range. Check that the file belongs to these images."
        )
    return x, y


@contextlib.contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    with open(path, "rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if zipped:
            with gzip.GzipFile(fileobj=raw) as stream:
                yield stream
        else:
            yield raw


@contextlib.contextmanager
def _damage_named(path: Path, stream: BinaryIO) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path}: damaged gzip data after byte {stream.tell()} of the unzipped stream ({error}). "
            "Copy or download the file again."
        ) from error


def _header(path: Path, stream: BinaryIO, ndim: int | None) -> tuple[np.dtype, tuple[int, ...]]:
    magic = stream.read(4)
    known = len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in _TYPES and magic[3] > 0
    if not known or (ndim is not None and magic[3] != ndim):
        expected = f"an IDX header of {ndim} dimensions" if ndim else "an IDX header"
        raise ValueError(
            f"{path}: magic bytes {magic.hex(' ') or 'none'} at byte 0, expected {expected} "
            f"(such as 00 00 08 {ndim or 3:02x}). This is another kind of file; check the name."
        )
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise ValueError(
            f"{path}: ends at byte {4 + len(sizes)}, inside the header of {4 + 4 * magic[3]} bytes. "
            "Copy or download the file again."
        )
    shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
    if 0 in shape:
        raise ValueError(
            f"{path}: sizes {shape} at byte 4, expected none to be 0. The file holds no values; use another."
        )
    return np.dtype(_TYPES[magic[2]]), shape


def _body(path: Path, stream: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    start = 4 + 4 * len(shape)
    length = math.prod(shape) * dtype.itemsize
    stored = path.stat().st_size
    room = stored * _MAX_EXPANSION if isinstance(stream, gzip.GzipFile) else stored - start
    if length > room:  # checked before anything is allocated: the header may ask for any amount of memory
        raise ValueError(
            f"{path}: sizes {shape} at byte 4 ask for {length} bytes after byte {start}, but the file of "
            f"{stored} bytes can hold {max(room, 0)} at most. Copy or download the file again."
        )
    body = np.empty(length, np.uint8)
    view, done = memoryview(body), 0
    while done < length:
        count = stream.readinto(view[done : done + _CHUNK])
        if not count:
            raise ValueError(
                f"{path}: ends at byte {start + done}, expected {start + length} bytes for sizes {shape}. "
                "Copy or download the file again."
            )
        done += count
    if stream.read(1):  # also makes gzip compare its CRC
        raise ValueError(
            f"{path}: surplus bytes from byte {start + length} on; sizes {shape} end there. "
            "Copy or download the file again."
        )
    values = body.view(dtype).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)
