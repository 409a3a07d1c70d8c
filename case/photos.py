"""The photos: the data set `garden`, what stands in for it where it is not at hand, and hard ones made here."""

from __future__ import annotations

from masslib import data
from masslib.data import sources
from masslib.data.catalog import CATALOG

import numpy as np
from PIL import Image, ImageDraw

UNWANTED, WANTED = 0, 1
CLASSES = ["unwanted", "wanted"]
_HUES = ((1.0, 0.6, 0.6), (0.6, 1.0, 0.6), (0.6, 0.7, 1.0), (1.0, 0.9, 0.5))


def is_at_hand() -> bool:
    """Whether the photos of `garden` are."""
    return sources.is_at_hand(CATALOG["garden"])


def load(rows: int | None = None, size: int | None = None) -> tuple[data.Splits, str]:
    """Load the photos as bytes in memory, decoded once.

    Args:
        rows: Training photos, chosen at random; all by default.
        size: Height and width; 64 by default, 32 of the stand-in.

    Returns:
        The photos in three parts, and a sentence that says what they are.
    """
    if is_at_hand():
        splits = data.load("garden", image_size=(size or 64,) * 2)
        parts = [_in_memory(part) for part in (splits.train, splits.valid, splits.test)]
        about = "Photographs of flowers (wanted) and snapshots of clothes for sale (unwanted); no person on two sides."
    else:
        parts = _stand_in(size or 32)
        about = (
            "A stand-in: two kinds of Fashion-MNIST, dresses (wanted) and coats (unwanted), on coloured grounds, "
            "because the photos of garden are not at hand; docs/datasets.md says where they belong."
        )
    if rows is not None:
        parts = [parts[0].sample(rows, seed=0), *(part.sample(min(len(part), rows), seed=0) for part in parts[1:])]
    return data.Splits(*parts, CLASSES), about


def _in_memory(part: data.Subset) -> data.Subset:
    return data.from_arrays(part.rows.raw(slice(None)), np.asarray(part.y), classes=CLASSES).with_groups(part.groups)


def _stand_in(size: int) -> list[data.Subset]:
    """Coats (unwanted) and dresses (wanted), each on a ground of some colour that says nothing about the kind."""
    splits, rng = data.load("fashion_mnist"), np.random.default_rng(0)
    parts = []
    for part, most in ((splits.train, 6000), (splits.valid, 700), (splits.test, 1700)):
        x, y = part[np.flatnonzero(np.isin(part.y, (3, 4)))[:most]]
        grounds = np.asarray(_HUES)[rng.integers(0, len(_HUES), len(x)), None, None, :]
        coloured = np.where(x > 0.1, x, grounds * rng.uniform(0.3, 1, (len(x), 1, 1, 1)))
        pixels = np.rint(np.broadcast_to(coloured, (*x.shape[:3], 3)) * 255).astype(np.uint8)
        photos = np.stack([np.asarray(Image.fromarray(photo).resize((size, size))) for photo in pixels])
        parts.append(data.from_arrays(photos, (y == 3).astype(np.int32), classes=CLASSES))
    return parts


def hard(test: data.Subset, seed: int = 0) -> tuple[data.Subset, np.ndarray]:
    """Photos that the network was not made for: nothing like them was trained with.

    Args:
        test: The test photos, some of which come turned, dark, grey or small.
        seed: Of what is drawn.

    Returns:
        Photos of all kinds, and the kind of each. Screens, patterns and drawings are of no kind that is wanted.
    """
    rng, size, some = np.random.default_rng(seed), test.input_shape[0], test.sample(min(len(test), 400), seed=seed)
    pixels, labels = some.rows.raw(slice(None)), np.asarray(some.y)
    drawn = {"screens": _screen, "patterns": _pattern, "drawings of flowers": _drawing}
    sets = {name: (np.stack([draw(rng, size) for _ in range(100)]), np.zeros(100, int)) for name, draw in drawn.items()}
    sets["turned by 90 degrees"] = np.rot90(pixels, axes=(1, 2)), labels
    sets["at night"] = night(pixels), labels
    sets["grey"] = np.repeat(np.rint(pixels.mean(-1, keepdims=True)).astype(np.uint8), 3, -1), labels
    sets["small on a white ground"] = _far(pixels), labels
    x, y = (np.concatenate([part[k] for part in sets.values()]) for k in (0, 1))
    kinds = np.repeat(list(sets), [len(part[1]) for part in sets.values()])
    return data.from_arrays(x, y, classes=CLASSES), kinds


def night(pixels: np.ndarray) -> np.ndarray:
    """A third of the light, and of what is left red goes first."""
    return np.rint(pixels * np.array([0.25, 0.32, 0.4], np.float32)).astype(np.uint8)


def _far(pixels: np.ndarray) -> np.ndarray:
    """Half as high and wide, in the middle of nothing."""
    size = pixels.shape[1]
    half = pixels[:, : size // 2 * 2 : 2, : size // 2 * 2 : 2]
    edge = (size - half.shape[1]) // 2
    rest = size - half.shape[1] - edge
    return np.pad(half, ((0, 0), (edge, rest), (edge, rest), (0, 0)), constant_values=255)


def _screen(rng: np.random.Generator, size: int) -> np.ndarray:
    image = Image.new("RGB", (size, size), tuple(rng.integers(200, 256, 3).tolist()))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, size, size // 10), fill=tuple(rng.integers(0, 120, 3).tolist()))
    for top in range(size // 6, size, max(4, size // 12)):
        pen.line((size // 12, top, int(rng.integers(size // 3, size)), top), fill=(60, 60, 60), width=2)
    return np.asarray(image)


def _pattern(rng: np.random.Generator, size: int) -> np.ndarray:
    one, other = rng.integers(0, 256, (2, 3))
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    waves = np.sin(x * rng.uniform(0.1, 1.0)) * np.sin(y * rng.uniform(0.1, 1.0)) > 0
    return np.where(waves[..., None], one, other).astype(np.uint8)


def _drawing(rng: np.random.Generator, size: int) -> np.ndarray:
    """A flower as a child draws it: no photo, so it is not wanted."""
    image = Image.new("RGB", (size, size), "white")
    pen, middle, leaf = ImageDraw.Draw(image), size // 2, size // 5
    colour = tuple(rng.integers(60, 256, 3).tolist())
    pen.line((middle, middle, middle, size), fill=(30, 140, 50), width=3)
    for angle in np.arange(0, 2 * np.pi, 2 * np.pi / rng.integers(5, 9)):
        x, y = middle + leaf * np.cos(angle), middle + leaf * np.sin(angle) - size // 8
        pen.ellipse((x - leaf / 2, y - leaf / 2, x + leaf / 2, y + leaf / 2), fill=colour)
    return np.asarray(image)
