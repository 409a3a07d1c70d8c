"""The packed file: its head, what is left of the TFLite file without its numbers, and the coded numbers."""

from __future__ import annotations

import hashlib
import lzma
import math
from collections.abc import Sequence

import numpy as np

from masslib._util.files import BLANK_SEAL
from masslib.runtime.packed.choice import best_coding
from masslib.runtime.packed.coder import WORD, Decoder, Encoder
from masslib.runtime.packed.codings import CODINGS, Coding
from masslib.runtime.packed.fields import Fields
from masslib.runtime.packed.products import Product, products
from masslib.runtime.packed.regions import Region, regions

MAGIC = b"MPK"
VERSION = 1
MOST_BYTES = 2**30
"""The largest TFLite file that is packed or unpacked."""

_MOST_RATIO, _FREE_BYTES = 2**13, 2**20
_MOST_REGIONS, _MOST_ROWS = 2**14, 2**17
_TYPES = tuple(map(np.dtype, ("int8", "uint8", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8")))
_SHA256, _DIGITS = 32, 64
# LZMA by its numbers of literal context, literal position and position bits
_LZMA = tuple(
    [{"id": lzma.FILTER_LZMA1, "dict_size": 2**23, "lc": lc, "lp": lp, "pb": pb, "nice_len": 273, "depth": 1000}]
    for lc, lp, pb in ((3, 0, 2), (3, 0, 0), (0, 2, 2), (1, 2, 2), (0, 0, 0))
)
# The results of the ways of LZMA differed by less than this factor on 60 TFLite files.
_NEARLY = 1.1


def pack(content: bytes) -> bytes:
    """Pack the bytes of a TFLite file; `unpack` gives back the same ones.

    Raises:
        ValueError: If it is larger than 1 GiB.
    """
    if len(content) > MOST_BYTES:
        raise ValueError(f"a file of {len(content):,} bytes; at most {MOST_BYTES:,} can be packed")
    apart = _packed(content, regions(content))
    # What LZMA finds by itself may be more, in files of few weights.
    whole = _packed(content, [], most=len(apart))
    return min(apart, whole, key=len)


def _packed(content: bytes, where: Sequence[Region], most: float = math.inf) -> bytes:
    """A packed file; where the first way of LZMA takes far more than `most` bytes, the others are not tried."""
    blank, seal = _without_seal(content)
    values = [np.frombuffer(blank, it.dtype, it.shape[0] * it.shape[1], it.start).reshape(it.shape) for it in where]
    follow = products(values)
    head, coder = Fields(), Encoder()
    head.number(seal)
    head.number(len(where))
    rest, end = bytearray(), 0
    for place, (region, matrix) in enumerate(zip(where, values, strict=True)):
        coding: Coding | Product = follow.get(place) or best_coding(matrix, region.lags)
        head.number(region.start - end)
        head.number(_TYPES.index(region.dtype))
        head.number(coding.number)
        head.number(region.shape[0])
        head.number(region.shape[1])
        coding.write(head)
        if not isinstance(coding, Product):
            coding.values(coder, region.shape, region.dtype, matrix)
        rest += blank[end : region.start]
        end = region.end
    plain = bytes(head.content + rest + blank[end:])
    tried = [lzma.compress(plain, lzma.FORMAT_RAW, filters=_LZMA[0])]
    if len(tried[0]) < _NEARLY * most:
        tried += [lzma.compress(plain, lzma.FORMAT_RAW, filters=filters) for filters in _LZMA[1:]]
    method = min(range(len(tried)), key=lambda i: len(tried[i]))
    front = Fields(MAGIC + bytes([VERSION]) + hashlib.sha256(content).digest())
    for number in (len(content), method, len(plain), len(tried[method])):
        front.number(number)
    return bytes(front.content) + tried[method] + coder.finish()


def _without_seal(content: bytes) -> tuple[bytes, int]:
    """A file with a blank in place of its own checksum, and where that is; 0 if it has none, or a wrong one."""
    at = content.rfind(BLANK_SEAL[:-_DIGITS])
    if at < 0:
        return content, 0
    at += len(BLANK_SEAL) - _DIGITS
    blank = content[:at] + BLANK_SEAL[-_DIGITS:] + content[at + _DIGITS :]
    return (blank, at) if _sealed(blank, at) == content else (content, 0)


def _sealed(blank: bytes, at: int) -> bytes:
    return blank[:at] + hashlib.sha256(blank).hexdigest().encode() + blank[at + _DIGITS :]


def unpack(packed: bytes) -> bytes:
    """Unpack what `pack` has packed, and compare its SHA-256.

    Memory and time are bounded by the size of the file: at most 1 MiB, and 8192 times its bytes, are unpacked.

    Raises:
        ValueError: If it is no packed file, of a newer version, or damaged.
    """
    if packed[: len(MAGIC)] != MAGIC:
        raise ValueError("it is not a packed file: it does not begin with 'MPK'")
    if packed[len(MAGIC) : len(MAGIC) + 1] != bytes([VERSION]):
        raise ValueError(
            f"it is a packed file of version {packed[len(MAGIC) :][:1].hex()}; this masslib reads {VERSION}"
        )
    try:
        content = _unpacked(packed)
    except MemoryError:
        raise
    except Exception as error:  # whatever damaged numbers make NumPy, lzma and the coder raise
        raise ValueError(f"it is damaged: {error}") from error
    if hashlib.sha256(content).digest() != packed[len(MAGIC) + 1 :][:_SHA256]:
        raise ValueError("it is damaged: what it unpacks to has another SHA-256 than it says")
    return content


def _unpacked(packed: bytes) -> bytes:
    front = Fields(packed)
    front.piece(len(MAGIC) + 1 + _SHA256)
    size = front.number_up_to(min(MOST_BYTES, _FREE_BYTES + _MOST_RATIO * len(packed)))
    filters = _LZMA[front.number_up_to(len(_LZMA) - 1)]
    # The head takes a few bytes for every region.
    plain_size = front.number_up_to(size + 2**20)
    compressed = front.piece(front.number())
    plain = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters).decompress(compressed, plain_size)
    if len(plain) != plain_size:
        raise ValueError("its head ends too early")
    stream = front.rest()
    head = Fields(plain)
    seal = head.number()
    plan = _plan(head, size)
    rest = head.rest()
    numbers = _numbers(plan, stream)
    if len(rest) + sum(array.nbytes for array in numbers) != size:
        raise ValueError("its parts do not add up")
    content, at = bytearray(), 0
    for (gap, *_), array in zip(plan, numbers, strict=True):
        content += rest[at : at + gap]
        content += array.tobytes()
        at += gap
    content += rest[at:]
    return _sealed(bytes(content), seal) if seal else bytes(content)


_Planned = tuple[int, np.dtype, tuple[int, int], Coding | Product]


def _plan(head: Fields, size: int) -> list[_Planned]:
    """What the head says about the regions: the bytes before each, type, shape and coding."""
    count = head.number_up_to(_MOST_REGIONS)
    plan: list[_Planned] = []
    total = rows = 0
    for _ in range(count):
        gap, dtype = head.number_up_to(size), _TYPES[head.number_up_to(len(_TYPES) - 1)]
        number, shape = head.number(), (head.number_up_to(size), head.number_up_to(size))
        rows, total = rows + min(shape), total + shape[0] * shape[1] * dtype.itemsize
        if not min(shape) or total > size or rows > _MOST_ROWS:
            raise ValueError(f"tensors of {total:,} bytes and {rows:,} rows, in a file of {size:,} bytes")
        kind = Product.read(head, count) if number == Product.number else CODINGS[number].read(head, dtype)
        plan.append((gap, dtype, shape, kind))
    return plan


def _numbers(plan: list[_Planned], stream: bytes) -> list[np.ndarray]:
    decoder = Decoder(stream[: len(stream) // WORD.itemsize * WORD.itemsize])
    coded = {
        place: coding.values(decoder, shape, dtype, None)
        for place, (_, dtype, shape, coding) in enumerate(plan)
        if not isinstance(coding, Product)
    }
    found = []
    for place, (_, dtype, shape, coding) in enumerate(plan):
        array = coding.values(coded[coding.source]) if isinstance(coding, Product) else coded[place]
        if array.shape != shape or array.dtype != dtype:
            raise ValueError("a product of another shape")
        found.append(array)
    return found
