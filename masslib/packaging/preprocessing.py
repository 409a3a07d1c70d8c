"""How a photo becomes an input of the model: what training did, in words that a manifest can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from masslib._util.photos import Decoder

_FORMATS = ("PNG", "JPEG", "WEBP")


def describe(rows: Any, scale: float | None = None) -> dict[str, Any] | None:
    """Tell how the rows of a `Subset` were made of photos; None if they are no images.

    Args:
        rows: `Subset.rows`.
        scale: What multiplies pixels from 0 to 255; by default the scale of the rows if they are kept as bytes.

    Example:
        >>> import masslib
        >>> describe(masslib.data.load("digits").test.rows)
        {'size': [8, 8], 'channels': 1, 'resize': 'stretch', 'scale': 0.003921568859368563}
    """
    shape = rows.shape
    if not isinstance(shape, tuple) or len(shape) != 3 or shape[2] not in (1, 3):
        return None
    if scale is None and rows.dtype != np.uint8:
        return None
    decoder = getattr(rows, "decoder", None)
    return {
        "size": [int(shape[0]), int(shape[1])],
        "channels": int(shape[2]),
        "resize": decoder.resize if decoder else "stretch",
        "scale": float(rows.scale if scale is None else scale),
    }


def decoder(told: Mapping[str, Any], max_pixels: int) -> Decoder:
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
    return Decoder((int(height), int(width)), int(channels), resize, max_pixels, _FORMATS)
