"""Folders of photos: every mode is read as a viewer shows it, and what cannot be read costs that file alone."""

from __future__ import annotations

import io
import os
import pickle
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masslib._util.photos import Decoder
from masslib.data import Subset, from_directory

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (12, 10, 3), np.uint8)
WHOLE = Decoder((12, 10), 3, "stretch", 10**6)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def folder_of(folder: Path, per_class: int = 10, classes=("cat", "dog"), extra: dict[str, bytes] | None = None) -> Path:
    """PNG files whose every pixel is (class, file, 7)."""
    for c, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for k in range(per_class):
            (folder / name / f"{k:02}.png").write_bytes(encoded(Image.new("RGB", (10, 12), (c, k, 7))))
    for name, data in (extra or {}).items():
        (folder / name).write_bytes(data)
    return folder


def bomb(width: int = 50_000, height: int = 50_000) -> bytes:
    """A PNG of a few dozen bytes that says it has two and a half thousand million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_rows_lie_in_files_and_are_split_seven_to_three_in_each_class(tmp_path):
    splits = from_directory(folder_of(tmp_path), image_size=(12, 10))
    assert repr(splits) == "Splits(train=14, valid=2, test=4, classes=['cat', ...])"
    assert (splits.classes, splits.skipped, splits.input_shape) == (["cat", "dog"], {}, (12, 10, 3))
    assert repr(splits.train) == "Subset(14 rows of (12, 10, 3), photos in files, labels int32, 2 classes)"
    seen = set()
    for part in (splits.train, splits.valid, splits.test):
        assert np.bincount(part.y).tolist() == [len(part) // 2] * 2
        x, y = part[:]
        values = (x * 255).round().astype(int)
        assert (values == values[:, :1, :1]).all() and (values[..., 2] == 7).all() and x.max() <= 1
        np.testing.assert_array_equal(values[:, 0, 0, 0], y)
        seen |= {tuple(row[0, 0]) for row in values}
    assert len(seen) == 20  # every photo is in one part
    other = from_directory(tmp_path, image_size=(12, 10), valid=6, test=0.5, seed=3)
    assert repr(other).startswith("Splits(train=4, valid=6, test=10,")


def test_numpy_and_tf_data_give_the_same_bits_and_memory_holds_names(tmp_path):
    for k in range(9):
        for name in ("a", "b"):
            (tmp_path / name).mkdir(exist_ok=True)
            noise = Image.fromarray(RNG.integers(0, 256, (50, 70 + k, 3), np.uint8))
            noise.save(tmp_path / name / f"{k}.{'jpg' if k % 2 else 'png'}")
    train = from_directory(tmp_path, image_size=(20, 24), resize="crop", valid=4, test=4).train
    x, y = train[:]
    batches = list(train.batches(4, shuffle=False).as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([b for b, _ in batches]), x)
    np.testing.assert_array_equal(np.concatenate([b for _, b in batches]), y)
    assert batches[0][0].dtype == np.float32 and train.batches(4).element_spec[0].shape.as_list() == [None, 20, 24, 3]
    for rows in (3, slice(2, 9, 3), [1, 1, 0], np.arange(10) % 2 == 0):
        np.testing.assert_array_equal(train[rows][0], x[rows])
    assert len(pickle.dumps(train)) < 3000 < x.nbytes / 10
    assert len(train.sample(6).take(5)) == 5
    import keras

    flipped = train.batches(10, shuffle=False, augment=keras.layers.RandomFlip("horizontal", seed=1))
    flips = [np.array_equal(a, b[:, ::-1]) for a, b in zip(next(iter(flipped))[0].numpy(), x, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(next(iter(flipped))[0].numpy(), x, strict=True)]
    assert any(flips) and any(same) and all(np.logical_xor(flips, same))


def grey16() -> Image.Image:
    return Image.fromarray(PHOTO[..., 0].astype(np.uint16) * 256 + 77)


def clear_palette() -> Image.Image:
    return Image.fromarray(PHOTO).convert("P", palette=Image.Palette.ADAPTIVE)


# Each as (file, what it must become)
MODES = {
    "RGB": (encoded(Image.fromarray(PHOTO)), PHOTO),
    "grey": (encoded(Image.fromarray(PHOTO[..., 0])), PHOTO[..., :1]),
    "16 bit": (encoded(grey16()), PHOTO[..., :1]),
    "black and white": (encoded(Image.fromarray(PHOTO[..., 0] > 99)), (PHOTO[..., :1] > 99) * np.uint8(255)),
    "alpha 255": (encoded(Image.fromarray(np.dstack([PHOTO, np.full((12, 10), 255, np.uint8)]))), PHOTO),
    "alpha 0": (encoded(Image.fromarray(np.dstack([PHOTO, np.zeros((12, 10), np.uint8)]))), PHOTO * 0 + 255),
    "grey with alpha": (
        encoded(Image.fromarray(np.dstack([PHOTO[..., 0], np.full((12, 10), 255, np.uint8)]), "LA")),
        PHOTO[..., :1],
    ),
    "palette": (encoded(clear_palette()), np.asarray(clear_palette().convert("RGB"))),
    "clear palette": (encoded(clear_palette(), transparency=bytes(256)), PHOTO * 0 + 255),
    "turned by EXIF": (
        encoded(
            Image.fromarray(np.rot90(PHOTO).copy()), exif=(lambda e: (e.__setitem__(0x0112, 6), e)[1])(Image.Exif())
        ),
        PHOTO,
    ),
    "CMYK": (encoded(Image.new("CMYK", (10, 12), (0, 255, 255, 0)), "JPEG"), PHOTO * 0 + np.array([255, 0, 0])),
    "two pictures": (
        encoded(Image.new("RGB", (10, 12), "white"), "MPO", save_all=True, append_images=[Image.new("RGB", (4, 4))]),
        PHOTO * 0 + 255,
    ),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_read_as_it_looks(mode, tmp_path):
    data, expected = MODES[mode]
    path = tmp_path / "photo"
    path.write_bytes(data)
    tolerance = 2 if data[:2] == b"\xff\xd8" else 0  # JPEG loses a little
    found = WHOLE(path)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found, np.broadcast_to(expected, (12, 10, 3)), atol=tolerance)
    if expected.shape[-1] == 1:
        np.testing.assert_array_equal(Decoder((12, 10), 1, "stretch", 10**6)(path), expected)


def test_resize_keeps_what_it_says(tmp_path):
    path = tmp_path / "wide.png"
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    Image.fromarray(wide).save(path)
    stretch, crop, pad = (Decoder((20, 20), 3, way, 10**6)(path) for way in ("stretch", "crop", "pad"))
    assert stretch.shape == crop.shape == pad.shape == (20, 20, 3)
    assert (crop == 200).all()
    assert (stretch[:, 8:12] == 200).all() and not stretch[:, :5].any()
    assert not pad[:6].any() and not pad[14:].any() and pad[9:11, 8:12].min() == 200


def test_a_large_jpeg_is_decoded_small_to_nearly_the_same_picture(tmp_path):
    y, x = np.mgrid[:600, :800]
    Image.fromarray(np.dstack([x * 255 // 800, y * 255 // 600, (x + y) % 256]).astype(np.uint8)).save(
        tmp_path / "a.jpg"
    )
    with Image.open(tmp_path / "a.jpg") as image:
        expected = np.asarray(image.resize((40, 30), Image.Resampling.BILINEAR), int)
    assert np.abs(Decoder((30, 40), 3, "stretch", 10**6)(tmp_path / "a.jpg") - expected).mean() < 1.5


def test_bad_files_are_reported_and_cost_nothing_else(tmp_path):
    frames = [Image.new("L", (10, 12), k) for k in range(3)]
    jpeg = encoded(Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)), "JPEG")
    extra = {
        "cat/empty.png": b"",
        "cat/text.png": b"not a photo",
        "cat/cut.jpg": jpeg[: len(jpeg) // 2],
        "cat/cut.png": encoded(Image.fromarray(PHOTO))[:-60],
        "dog/bomb.png": bomb(),
        "dog/large.png": bomb(2000, 1000),
        "dog/moving.png": encoded(frames[0], save_all=True, append_images=frames[1:]),
        "dog/moving.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "dog/.hidden": b"passed over",
        "readme.txt": b"not in a class",
    }
    folder_of(tmp_path, extra=extra)
    (tmp_path / "dog" / "more").mkdir()
    (tmp_path / "dog" / "lost.png").symlink_to("nowhere.png")
    (tmp_path / ".cache").mkdir()
    words = r"10 of 30 files in .* are skipped \(.*2 too large.*\); \.skipped of the result tells why"
    with pytest.warns(UserWarning, match=words) as caught:
        splits = from_directory(tmp_path, image_size=(12, 10), max_pixels=10**6)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert {name: reason.partition(":")[0] for name, reason in splits.skipped.items()} == {
        "cat/cut.jpg": "damaged",
        "cat/cut.png": "damaged",
        "cat/empty.png": "empty",
        "cat/text.png": "no PNG or JPEG image",
        "dog/bomb.png": "too large",
        "dog/large.png": "too large",
        "dog/lost.png": "no file",
        "dog/more": "folder",
        "dog/moving.gif": "no PNG or JPEG image",
        "dog/moving.png": "animated",
    }
    assert splits.skipped["dog/large.png"] == "too large: 2000 x 1000 pixels, at most 1,000,000 in all"
    assert splits.skipped["dog/moving.png"] == "animated: 3 frames"
    assert repr(splits) == "Splits(train=14, valid=2, test=4, classes=['cat', ...], skipped=10)"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clean = from_directory(folder_of(tmp_path / "clean"), image_size=(12, 10))
    np.testing.assert_array_equal(splits.train[:][0], clean.train[:][0])  # the same rows in the same order


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_wherever_a_file_is_cut_or_damaged_it_is_whole_or_reported(kind, tmp_path):
    data = encoded(Image.fromarray(PHOTO), kind)
    expected = Decoder((12, 10), 3, "stretch", 10**6)
    (tmp_path / "whole").write_bytes(data)
    whole = expected(tmp_path / "whole")
    folder_of(tmp_path / "all", 3, ("a",))
    cuts = {f"cut-{k:04}": data[:k] for k in range(0, len(data), 3)}
    for k in range(100):
        at = int(RNG.integers(len(data)))
        cuts[f"flip-{k:04}"] = data[:at] + bytes([data[at] ^ int(RNG.integers(1, 256))]) + data[at + 1 :]
    for name, content in cuts.items():
        (tmp_path / "all" / "a" / name).write_bytes(content)
    with pytest.warns(UserWarning, match="are skipped"):
        splits = from_directory(tmp_path / "all", image_size=(12, 10), valid=1, test=1)
    for name in set(cuts) - {name.partition("/")[2] for name in splits.skipped}:
        if name.startswith("cut-"):
            np.testing.assert_array_equal(expected(tmp_path / "all" / "a" / name), whole)


def test_a_photo_that_vanishes_later_is_named(tmp_path):
    splits = from_directory(folder_of(tmp_path), image_size=(12, 10))
    for path in (tmp_path / "cat").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"cat/\d\d.png was readable .* and is not any more: .*Restore it"):
        _ = splits.train[:]
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"cat/\d\d.png was readable"):
        list(splits.train.batches(20))


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_reported(tmp_path):
    folder_of(tmp_path)
    (tmp_path / "cat" / "00.png").chmod(0)
    with pytest.warns(UserWarning, match="1 unreadable"):
        assert from_directory(tmp_path, image_size=(12, 10)).skipped == {"cat/00.png": "unreadable: Permission denied"}


SIZE = {"image_size": (12, 10)}
REFUSED = [
    ({"image_size": 32}, TypeError, r"image_size is 32, expected \(height, width\) in pixels"),
    ({"image_size": "32"}, TypeError, "image_size is '32', expected"),
    ({"image_size": (0, 8)}, ValueError, r"image_size\[0\] is 0, expected a positive integer"),
    ({"image_size": (8, 8.5)}, TypeError, r"image_size\[1\] is 8.5, expected a positive integer"),
    ({"channels": 4, **SIZE}, ValueError, "channels is 4, expected 1 for grey or 3 for colour"),
    ({"resize": "zoom", **SIZE}, ValueError, "resize is 'zoom', expected one of 'stretch', 'crop', 'pad'"),
    ({"max_pixels": 0, **SIZE}, ValueError, "max_pixels is 0, expected a positive integer"),
    ({"valid": 1.5, **SIZE}, ValueError, "valid is 1.5, expected 2 to 14 rows, or a fraction between 0 and 1 of 20"),
    ({"test": 20, **SIZE}, ValueError, "test is 20, expected 2 to 18 rows"),
    ({"test": 18, "valid": 1, **SIZE}, ValueError, "class 0 has 1 row left when valid rows are set aside"),
]


@pytest.mark.parametrize("options, error, words", REFUSED, ids=[row[-1][:30] for row in REFUSED])
def test_bad_arguments_are_refused(options, error, words, tmp_path):
    with pytest.raises(error, match=words):
        from_directory(folder_of(tmp_path), **options)


def test_folders_that_are_no_classes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="nowhere is no folder; expected one that holds a folder of photos for each"):
        from_directory(tmp_path / "nowhere", **SIZE)
    with pytest.raises(ValueError, match=r"has no sub-folders; expected one for each class, such as .*cat"):
        from_directory(tmp_path, **SIZE)
    folder_of(tmp_path, extra={"dog/empty.png": b""})
    for path in sorted((tmp_path / "dog").glob("0*.png"))[2:]:
        path.unlink()
    words = r"dog holds 2 readable photos, expected at least 3: .* Skipped there: dog/empty.png \(empty\)\."
    with pytest.warns(UserWarning, match="1 empty"), pytest.raises(ValueError, match=words):
        from_directory(tmp_path, **SIZE)


def test_photos_train_a_network(tmp_path):
    """What `fit` and the rest of masslib take is a Subset, wherever its rows lie."""
    import keras

    splits = from_directory(folder_of(tmp_path), image_size=(12, 10))
    assert isinstance(splits.train, Subset)
    model = keras.Sequential([keras.Input(splits.input_shape), keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    loss = model.fit(splits.train.batches(4), epochs=2, shuffle=False, verbose=0).history["loss"]
    assert np.isfinite(loss).all() and len(loss) == 2
