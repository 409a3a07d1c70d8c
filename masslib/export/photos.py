"""Photos in files, decoded inside of a TensorFlow graph as `masslib.data.from_directory` decodes them."""

from __future__ import annotations

import tensorflow as tf

# Where cameras write their entries: in the first segments of a JPEG, before the pixels.
_HEAD = 65_536
_ORIENTATION = 0x0112
_ENTRY = 12


def decode_all(contents: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    """Decode PNG or JPEG files `(n,)` into float32 pixels `(n, h, w, c)` from 0 to 255."""
    pixels = tf.TensorSpec(shape, tf.float32)
    return tf.map_fn(lambda content: decode(content, shape), contents, fn_output_signature=pixels)


def decode(content: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    """Decode a PNG or JPEG file into float32 pixels `(h, w, c)` from 0 to 255.

    Turned as its EXIF entry says; what is transparent becomes white; grey is the luma of ITU-R 601; bilinear with
    antialiasing, stretched to the size.

    Args:
        content: The bytes of the file, a string of shape ().
        shape: Height, width and channels (1 or 3).
    """
    image = tf.cond(tf.io.is_jpeg(content), lambda: _jpeg(content), lambda: _png(content))
    if shape[2] == 1:
        image = tf.round(tf.tensordot(image, tf.constant([[0.299], [0.587], [0.114]]), 1))
    image = tf.image.resize(image, shape[:2], antialias=True)
    return tf.ensure_shape(tf.clip_by_value(tf.round(image), 0.0, 255.0), shape)


def _jpeg(content: tf.Tensor) -> tf.Tensor:
    # The arithmetic of Pillow; TensorFlow's default is a faster one.
    image = tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")
    return _turned(tf.cast(image, tf.float32), _orientation(content, [0xFF, 0xE1, None, None, *b"Exif\0\0"]))


def _png(content: tf.Tensor) -> tf.Tensor:
    image = tf.cast(tf.io.decode_png(content, channels=4), tf.float32)
    # Of grey with less than 8 bits TensorFlow expands the pixels to 255, but not what it fills the alpha with.
    bits, kind = tf.unstack(tf.io.decode_raw(tf.strings.substr(content + b"\0" * 26, 24, 2), tf.uint8), 2)
    alpha = image[..., 3:] / 255.0
    alpha = tf.where((kind == 0) & (bits < 8), tf.math.ceil(alpha), alpha)
    image = tf.round(image[..., :3] * alpha + 255.0 * (1.0 - alpha))
    return _turned(image, _orientation(content, [*b"eXIf"]))


def _orientation(content: tf.Tensor, marker: list[int | None]) -> tf.Tensor:
    """The orientation from 1 to 8 in the EXIF entries behind a marker (None: any byte), 1 where there is none."""
    data = tf.cast(tf.io.decode_raw(tf.strings.substr(content, 0, _HEAD), tf.uint8), tf.int32)
    # Room behind, so that nothing is read outside of a file that is cut off.
    data = tf.pad(data, [[0, 64]])
    places = tf.size(data) - 64
    matches = tf.reduce_all(
        tf.stack([data[i : i + places] == byte for i, byte in enumerate(marker) if byte is not None]), axis=0
    )
    found = tf.reduce_any(matches)
    start = tf.argmax(tf.cast(matches, tf.int32), output_type=tf.int32) + len(marker)
    little = data[start] == ord("I")

    def number(at: tf.Tensor, size: int) -> tf.Tensor:
        read = tf.gather(data, tf.minimum(at[..., None] + tf.range(size), tf.size(data) - 1))
        weights = tf.constant([256**i for i in range(size)])
        return tf.reduce_sum(read * tf.where(little, weights, weights[::-1]), axis=-1)

    # The offset of the first directory has four bytes, of which two can be other than 0 in the head of a file.
    table = start + number(start + tf.where(little, 4, 6), 2)
    entries = table + 2 + _ENTRY * tf.range(tf.minimum(number(table, 2), 256))
    values = tf.boolean_mask(number(entries + 8, 2), number(entries, 2) == _ORIENTATION)
    value = tf.concat([values, [1]], 0)[0]
    return tf.where(found & (value >= 1) & (value <= 8), value, 1)


def _turned(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn and mirror `(h, w, c)` as an EXIF orientation asks for."""
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    upside_down = tf.reduce_any(orientation == [3, 4, 7, 8])
    mirrored = tf.reduce_any(orientation == [2, 3, 6, 7])
    image = tf.cond(upside_down, lambda: tf.reverse(image, [0]), lambda: image)
    return tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)
