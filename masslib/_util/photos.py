"""Photos in files or in memory, decoded by Pillow: training and the service share this, so they see the same bits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from PIL import Image


class Unsuitable(ValueError):
    """A photo that could be decoded, and is not to be."""


class TooLarge(Unsuitable):
    """A photo of too many pixels."""


@dataclass(frozen=True)
class Decoder:
    """How a PNG or JPEG file becomes an array.

    Attributes:
        image_size: height and width.
        channels: 1 for grey, 3 for colour.
        resize: "stretch", "crop" or "pad".
        max_pixels: no file with more pixels is decoded.
        formats: what is decoded, by Pillow's names.
    """

    image_size: tuple[int, int]
    channels: int
    resize: str
    max_pixels: int
    formats: tuple[str, ...] = ("PNG", "JPEG")

    def __call__(self, path: str | Path | BinaryIO) -> np.ndarray:
        """Decodes one file into uint8 `(h, w, c)`.

        Turned as its EXIF entry says; 16 bits become 8; what is transparent becomes white. A JPEG much larger
        than needed is decoded at 1/2, 1/4 or 1/8 (`PIL.Image.Image.draft`), never below twice `image_size`.

        Raises:
            TooLarge: too many pixels.
            Unsuitable: an animation.
            OSError, SyntaxError and others: what Pillow raises for what it cannot read.
        """
        from PIL import Image, ImageOps

        with Image.open(path, formats=self.formats) as image:
            pixels = image.width * image.height
            if pixels > self.max_pixels:
                raise TooLarge(f"too large: {image.width} x {image.height} pixels, at most {self.max_pixels:,} in all")
            # Not for JPEG: the second picture in a phone's file is a preview or a brightness map.
            if image.format not in ("JPEG", "MPO") and image.is_animated:
                raise Unsuitable(f"animated: {image.n_frames} frames")
            image.draft(None, (2 * max(self.image_size),) * 2)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return self._fit(_plain(image, self.channels))

    def _fit(self, image: Image.Image) -> np.ndarray:
        from PIL import Image, ImageOps

        size, smooth = self.image_size[::-1], Image.Resampling.BILINEAR
        if image.size == size:  # Pillow would copy it
            pass
        elif self.resize == "stretch":
            image = image.resize(size, smooth)
        else:
            image = (ImageOps.fit if self.resize == "crop" else ImageOps.pad)(image, size, smooth)
        return np.asarray(image).reshape(*self.image_size, self.channels)


def _plain(image: Image.Image, channels: int) -> Image.Image:
    """8-bit grey or RGB without transparency, of any mode."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # convert() would clip instead
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)
