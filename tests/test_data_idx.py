"""IDX files: read rightly, or refused by name and byte."""

from __future__ import annotations

import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from masslib.data import idx


def encode(array: np.ndarray, code: int = 8) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, code, array.ndim]) + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(folder, data: bytes, name: str = "some-idx3-ubyte", *, zipped: bool = False):
    path = folder / name
    path.write_bytes(gzip.compress(data, mtime=0) if zipped else data)
    return path


IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("code, kind", [(8, "u1"), (9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")])
def test_every_type_makes_the_round_trip(tmp_path, code, kind, zipped):
    values = np.linspace(0, 127, 24).reshape(2, 3, 4).astype(kind)
    found = idx.read(write(tmp_path, encode(values, code), zipped=zipped), ndim=3)
    assert found.dtype == values.dtype and found.dtype.isnative
    np.testing.assert_array_equal(found, values)


GOOD = encode(IMAGES)
DAMAGED = {
    "empty": (b"", r"magic bytes none at byte 0, expected an IDX header of 3 dimensions"),
    "foreign": (b"\x89PNG\r\n", r"magic bytes 89 50 4e 47 at byte 0.*check the name"),
    "unknown type": (b"\0\0\x0a" + GOOD[3:], r"magic bytes 00 00 0a 03 at byte 0"),
    "no dimension": (b"\0\0\x08\0", r"magic bytes 00 00 08 00 at byte 0"),
    "labels": (encode(IMAGES[0, 0]), r"magic bytes 00 00 08 01 at byte 0.*3 dimensions"),
    "short header": (GOOD[:11], r"ends at byte 11, inside the header of 16 bytes"),
    "short body": (GOOD[:-1], r"sizes \(2, 3, 4\) at byte 4|ends at byte 39, expected 40 bytes"),
    "surplus": (GOOD + b"x", r"surplus bytes from byte 40 on"),
    "size zero": (encode(IMAGES[:0]), r"sizes \(0, 3, 4\) at byte 4, expected none to be 0"),
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("case", DAMAGED)
def test_damage_names_file_and_byte(tmp_path, case, zipped):
    data, words = DAMAGED[case]
    with pytest.raises(ValueError, match=f"some-idx3-ubyte: (.*)({words})"):
        idx.read(write(tmp_path, data, zipped=zipped), ndim=3)


@pytest.mark.parametrize("zipped", [False, True])
def test_no_cut_is_taken_for_a_whole_file(tmp_path, zipped):
    whole = gzip.compress(GOOD, mtime=0) if zipped else GOOD
    for length in range(len(whole)):
        with pytest.raises(ValueError, match=r"some-idx3-ubyte: .*byte \d+"):
            idx.read(write(tmp_path, whole[:length]), ndim=3)


def test_flipped_bits_of_gzip_data_never_pass_for_other_values(tmp_path):
    whole, refused = gzip.compress(GOOD, mtime=0), 0
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path = write(tmp_path, bytes(flipped))
        try:  # gzip's header holds a time, and its data a few unused bits
            np.testing.assert_array_equal(idx.read(path, ndim=3), IMAGES)
        except ValueError:
            with pytest.raises(ValueError, match=r"some-idx3-ubyte: .*byte \d+"):
                idx.read(path, ndim=3)
            refused += 1
    assert refused > 0.8 * 8 * len(whole)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_header_cannot_ask_for_absurd_memory(tmp_path, zipped):
    path = write(tmp_path, b"\0\0\x08\x03" + b"\xff" * 12 + b"body", zipped=zipped)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"sizes \(4294967295, .*ask for \d{29} bytes.*at most"):
            idx.read(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_pair_must_belong_together(tmp_path):
    images = write(tmp_path, encode(IMAGES), "images")
    x, y = idx.read_pair(images, write(tmp_path, encode(np.array([9, 0], np.uint8)), "labels"), classes=10)
    assert x.shape == (2, 3, 4) and y.tolist() == [9, 0]
    with pytest.raises(ValueError, match=r"images holds 2 images but .*labels holds 3 labels .*byte 4"):
        idx.read_pair(images, write(tmp_path, encode(np.zeros(3, np.uint8)), "labels"), classes=10)
    with pytest.raises(ValueError, match=r"labels: label 10 at byte 9 \(row 1\), expected 0 to 9; 1 labels"):
        idx.read_pair(images, write(tmp_path, encode(np.array([9, 10], np.uint8)), "labels"), classes=10)
    with pytest.raises(ValueError, match=r"label -1 at byte 8"):
        idx.read_pair(images, write(tmp_path, encode(np.array([-1, 1], "i2"), 11), "labels"), classes=10)
