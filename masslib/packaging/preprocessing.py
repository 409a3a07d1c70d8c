"""How a photo becomes an input of the model: what training did, in words that a manifest can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from masslib._util.photos import Decoder

_PIXELS = 50_000_000
_FORMATS = ("PNG", "JPEG", "WEBP")


def describe(rows: Any, scale: float) -> dict[str, Any] | None:
    """Tell how the rows of a `Subset` were made of photos; None if they are no images.

    Args:
        rows: `Subset.rows`.
        scale: What multiplies pixels from 0 to 255.

    Example:
        >>> import masslib, numpy as np
        >>> describe(masslib.data.from_arrays(np.zeros((3, 8, 8, 1), "uint8")).rows, 1 / 255)
        {'size': [8, 8], 'channels': 1, 'resize': 'stretch', 'scale': 0.00392156862745098}
    """
    shape = rows.shape
    if not isinstance(shape, tuple) or len(shape) != 3 or shape[2] not in (1, 3):
        return None
    decoder = getattr(rows, "decoder", None)
    return {
        "size": [int(shape[0]), int(shape[1])],
        "channels": int(shape[2]),
        "resize": decoder.resize if decoder else "stretch",
        "scale": float(scale),
    }


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
