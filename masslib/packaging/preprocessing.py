"""How a photo becomes an input of the model: what training did, in words that a manifest can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from masslib._util.photos import Decoder

_ROWS = 2048
_PIXELS = 50_000_000
_FORMATS = ("PNG", "JPEG", "WEBP")


def known_scale(rows: Any) -> float | None:
    """What turns pixels from 0 to 255 into the inputs of a model; None if the rows of a `Subset` do not tell.

    Photos in files tell it, and so do bytes, if some are in the upper half. Of other images the largest value has to
    be 1 or 255 as a network gets it, and none below 0: this is white.

    Args:
        rows: `Subset.rows`, of which at most 2048 are looked at.

    Example:
        >>> import masslib
        >>> known_scale(masslib.data.load("digits").train.rows) == 1 / 255  # stored from 0 to 16, times 1/16
        True
    """
    if not _are_images(rows.shape):
        return None
    scale = 1.0 if rows.scale is None else float(rows.scale)
    if getattr(rows, "decoder", None) is not None:
        return scale
    stored = np.asarray(rows.raw(np.linspace(0, len(rows) - 1, min(_ROWS, len(rows))).astype(int)))
    if stored.dtype == np.uint8 and stored.max() > 127:
        return scale
    if stored.dtype.kind not in "fiub" or stored.min() * scale < 0:
        return None
    largest = float(stored.max()) * scale
    return next((white / 255 for white in (1, 255) if math.isclose(largest, white, rel_tol=1e-6)), None)


def describe(rows: Any, scale: float | None) -> dict[str, Any] | None:
    """Tell how the rows of a `Subset` were made of photos; None if they are no images, or the scale is not known.

    Args:
        rows: `Subset.rows`.
        scale: What multiplies pixels from 0 to 255.

    Example:
        >>> import masslib, numpy as np
        >>> describe(masslib.data.from_arrays(np.zeros((3, 8, 8, 1), "uint8")).rows, 1 / 255)
        {'size': [8, 8], 'channels': 1, 'resize': 'stretch', 'scale': 0.00392156862745098}
    """
    shape = rows.shape
    if scale is None or not _are_images(shape):
        return None
    decoder = getattr(rows, "decoder", None)
    return {
        "size": [int(shape[0]), int(shape[1])],
        "channels": int(shape[2]),
        "resize": decoder.resize if decoder else "stretch",
        "scale": float(scale),
    }


def _are_images(shape: Any) -> bool:
    return isinstance(shape, tuple) and len(shape) == 3 and shape[2] in (1, 3)


def decoder(told: Mapping[str, Any]) -> Decoder:
    """The `Decoder` that a description tells of.

    Raises:
        ValueError: If it is no description.
    """
    try:
        (height, width), channels, resize = told["size"], told["channels"], told["resize"]
        fits = 0 < height * width <= 2**26 and channels in (1, 3) and resize in ("stretch", "crop", "pad")
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"the manifest does not tell how photos become inputs: {error!r}") from error
    if not fits:
        raise ValueError(f"the manifest tells of photos that cannot be: {dict(told)}")
    return Decoder((int(height), int(width)), int(channels), resize, _PIXELS, _FORMATS)
