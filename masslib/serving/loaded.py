"""One version of a model in the memory of a worker: its file, its inputs, and how many rows at once pay."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from masslib import runtime
from masslib._util import manifest
from masslib._util.photos import Decoder, TooLarge
from masslib._util.structures import flat
from masslib.packaging import golden, preprocessing
from masslib.packaging.reference import Bins
from masslib.runtime.arrays import converted
from masslib.serving.batching import Arrays

_SIZES = (1, 2, 4, 8, 16, 32)
# Files above this many bytes get two sizes at most, because every size keeps the weights once more.
_LARGE = 2 * 2**20
_PAYS = 0.95
_SLOW_SECONDS = 0.02
_TRIES = 7
_EXAMPLE_PIXELS = 2**26
SMALL_PIXELS = 256 * 256
"""A photo of so many pixels is decoded at once, a larger one in a thread."""


@dataclass(frozen=True)
class Tensor:
    """An input or output: its name, the shape of one row (None where any size will do) and its type."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype

    def row(self, array: np.ndarray) -> np.ndarray:
        """Rows `(n, *shape)` in the type of the tensor.

        Raises:
            ValueError: If the shape does not fit or a number cannot be held.
            TypeError: If it holds no numbers.
        """
        fits = array.ndim == len(self.shape) + 1 and all(
            size in (None, got) for size, got in zip(self.shape, array.shape[1:], strict=True)
        )
        if not fits:
            wanted = ", ".join(["n", *("any" if size is None else str(size) for size in self.shape)])
            raise ValueError(f"input {self.name!r} has shape {array.shape}, expected ({wanted})")
        return converted(array, self.dtype)


@dataclass
class Loaded:
    """What answers for one version: the default signature of its file, or another one.

    Attributes:
        name: Of the model.
        version: Its number.
        signature: Of the file.
        default: Whether it is the default one.
        others: The other signatures of the file that take and answer rows of numbers; of the default one only.
        left_out: Signature -> why it is not served.
        file: Which file of the package runs, such as `"tflite"`.
        sha256: Of the manifest.
        inputs: What it takes.
        outputs: What it answers.
        labels: Names of the classes, or None.
        decoder: Makes arrays of photos of at most `SMALL_PIXELS`, or None.
        scale: What multiplies them.
        sizes: Rows per call that are worth it, ascending.
        seconds: What a call of the largest of them takes.
        bins: Of the reference distribution, or None.
        card: The model card, Markdown.
        examples: A few inputs as PNG, for the page.
        preprocessing: How photos become inputs, as the manifest tells it, or None.
    """

    name: str
    version: int
    signature: str
    default: bool
    others: tuple[Loaded, ...]
    left_out: dict[str, str]
    file: str
    sha256: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    labels: list[str] | None
    decoder: Decoder | None
    scale: np.float32
    sizes: tuple[int, ...]
    seconds: float
    bins: Bins | None
    card: str
    examples: list[bytes]
    preprocessing: dict[str, Any] | None
    _predictors: dict[int, runtime.Predictor] = field(repr=False)

    def run(self, arrays: Arrays) -> Arrays:
        """Answer arrays `(n, ...)`, n being one of `sizes`."""
        rows = len(next(iter(arrays.values())))
        predictor = self._predictors.get(rows) or self._predictors[self.sizes[0]]
        answers = _by_name(self.outputs, predictor.predict(arrays))
        # Answers are handed out by row: what is none would reach other clients than its own.
        if wrong := _not_by_rows(answers, rows):
            raise ValueError(f"{self.name}: {wrong}")
        return answers

    def photo(self, data: bytes, max_pixels: int) -> np.ndarray | None:
        """One row `(1, h, w, c)` of a photo; None if it has more pixels than that.

        Raises:
            Unsuitable: If it is an animation.
            Exception: What Pillow raises for what it cannot read.
        """
        from PIL import Image  # only where there are photos

        decode: Decoder = self.decoder  # type: ignore[assignment]
        if max_pixels != SMALL_PIXELS:
            decode = replace(decode, max_pixels=max_pixels)
        try:
            array = decode(io.BytesIO(data))
        except (TooLarge, Image.DecompressionBombError):  # Pillow's own, for sizes beyond any sense
            return None
        return array[None].astype(np.float32) * self.scale

    @property
    def takes_photos(self) -> bool:
        """Whether the one input is made of photos."""
        return self.decoder is not None and len(self.inputs) == 1


def load(name: str, version: int, folder: Path, file: str, sha256: str, *, threads: int, max_batch: int) -> Loaded:
    """Load and warm up a version that has been verified.

    Args:
        name: Of the model.
        version: Its number.
        folder: Where the package lies.
        file: Which of its files.
        sha256: What the manifest had when it was verified.
        threads: Of the interpreter.
        max_batch: Most rows in one call.

    Raises:
        ValueError: If the folder was changed since, or cannot be loaded.
    """
    if manifest.checksum(folder / "manifest.json") != sha256:
        raise ValueError("the package was changed after it had been verified")
    facts = manifest.read(folder)
    entry, rows = facts["models"][file], golden(folder)
    path = folder / entry["file"]
    first = runtime.load(path, threads=threads)
    if not first.by_rows:
        raise ValueError("the inputs of the model do not all have their rows first, so requests cannot share a call")
    inputs, outputs = _tensors(first.inputs, "takes"), _tensors(first.outputs, "answers")
    example = _by_name(inputs, rows.inputs)
    plan = _Plan(path, threads, max_batch)
    predictors, seconds = plan.sizes_that_pay(first, example)
    told = facts.get("preprocessing")
    decoder = replace(preprocessing.decoder(told), max_pixels=SMALL_PIXELS) if told else None
    if decoder is not None and (*decoder.image_size, decoder.channels) != inputs[0].shape:
        decoder = None
    labels = facts["data"]["classes"] or first.labels
    pictures = _pictures(example[inputs[0].name], told) if decoder and told else []
    loaded = Loaded(
        name=name,
        version=version,
        signature=first.signature,
        default=True,
        others=(),
        left_out={},
        file=file,
        sha256=sha256,
        inputs=inputs,
        outputs=outputs,
        labels=[str(label) for label in labels] if labels else None,
        decoder=decoder,
        scale=np.float32(told["scale"] if told else 1),
        sizes=tuple(predictors),
        seconds=seconds,
        bins=Bins(facts["reference"]) if facts.get("reference") else None,
        card=(folder / "MODEL_CARD.md").read_text(encoding="utf-8"),
        examples=pictures,
        preprocessing=told,
        _predictors=predictors,
    )
    for picture in pictures:  # Pillow loads its decoders when they are first used
        loaded.photo(picture, _EXAMPLE_PIXELS)
    others = []
    for signature in first.signatures:
        if signature != first.signature:
            try:
                others.append(_other(loaded, plan, signature))
            except ValueError as error:
                loaded.left_out[signature] = str(error)
    return replace(loaded, others=tuple(others))


def _other(loaded: Loaded, plan: _Plan, signature: str) -> Loaded:
    """A signature beside the default one.

    Its predictor is its own, because signatures of one interpreter cannot run at the same time.

    Raises:
        ValueError: If it takes or answers something else than rows of numbers.
    """
    first = plan.open(signature)
    inputs, outputs = _tensors(first.inputs, "takes"), _tensors(first.outputs, "answers")
    if not first.by_rows:
        raise ValueError("it takes something besides rows, so requests cannot share a call")
    example = {it.name: np.zeros((1, *(size or 1 for size in it.shape)), it.dtype) for it in inputs}
    tried = {}
    try:
        for rows in (2, 3):
            given = {name: np.repeat(x, rows, axis=0) for name, x in example.items()}
            tried[rows] = _by_name(outputs, first.predict(given))
        predictors, seconds = plan.sizes_that_pay(first, example)
    except (ValueError, RuntimeError):  # zeros, of the least size, are nothing for it: nobody has said what is
        predictors, seconds = {first.batch or 1: first}, _SLOW_SECONDS
    for rows, answers in tried.items():
        if wrong := _not_by_rows(answers, rows):
            raise ValueError(wrong)
    return replace(
        loaded,
        signature=signature,
        default=False,
        inputs=inputs,
        outputs=outputs,
        labels=None,
        decoder=None,
        sizes=tuple(predictors),
        seconds=seconds,
        bins=None,
        examples=[],
        _predictors=predictors,
    )


def _tensors(tensors: Mapping[str, Any], what: str) -> tuple[Tensor, ...]:
    for name, tensor in tensors.items():
        if tensor.dtype.kind not in "fiub" or not tensor.shape:
            raise ValueError(f"the model {what} {name!r}, {tensor}; the service speaks rows of numbers")
    return tuple(Tensor(name, tensor.shape[1:], tensor.dtype) for name, tensor in tensors.items())


def _by_name(tensors: tuple[Tensor, ...], structure: Any) -> dict[str, np.ndarray]:
    """The arrays of a structure, which are in the order of the tensors unless it names them."""
    names = [tensor.name for tensor in tensors]
    if isinstance(structure, Mapping) and set(names) <= set(structure):
        return {name: np.asarray(structure[name]) for name in names}
    return dict(zip(names, map(np.asarray, flat(structure)), strict=True))


@dataclass(frozen=True)
class _Plan:
    """How predictors of a file are made, and how many rows they get at most."""

    path: Path
    threads: int
    largest: int

    def open(self, signature: str) -> runtime.Predictor:
        return runtime.load(self.path, threads=self.threads).signatures[signature]

    def sizes_that_pay(
        self, first: runtime.Predictor, example: dict[str, np.ndarray]
    ) -> tuple[dict[int, runtime.Predictor], float]:
        """A predictor for every number of rows whose time per row is less than that of fewer; each keeps its shape."""
        if first.batch:
            return {first.batch: first}, _seconds(first, example, first.batch)
        seconds = _seconds(first, example, 1)
        found, per_row = {1: first}, seconds
        candidates = [size for size in _SIZES[1:] if size <= self.largest]
        if self.path.stat().st_size > _LARGE:
            candidates = [size for size in candidates if size == 8]
        if seconds > _SLOW_SECONDS:
            candidates = []
        for size in candidates:
            # The graph of one of several signatures is set up at every call, for whatever shape.
            predictor = first if len(first.signatures) > 1 else self.open(first.signature)
            taken = _seconds(predictor, example, size)
            if taken / size <= _PAYS * per_row:
                found[size], seconds, per_row = predictor, taken, taken / size
            elif taken > _SLOW_SECONDS:
                break
        return found, seconds


def _not_by_rows(answers: Mapping[str, np.ndarray], rows: int) -> str:
    """Which output does not answer so many rows, in words; nothing if all do."""
    wrong = [name for name, array in answers.items() if not array.ndim or len(array) != rows]
    return f"its output {wrong[0]!r} is not by rows" if wrong else ""


def _seconds(predictor: runtime.Predictor, example: dict[str, np.ndarray], rows: int) -> float:
    """The least time of a few calls after one that sets up the shape."""
    x = {name: np.resize(array, (rows, *array.shape[1:])) for name, array in example.items()}
    predictor.predict(x)
    times = []
    for _ in range(_TRIES):
        start = time.perf_counter()
        predictor.predict(x)
        times.append(time.perf_counter() - start)
    return min(times)


def _pictures(rows: np.ndarray, told: dict[str, Any]) -> list[bytes]:
    """The first golden rows as PNG files."""
    from PIL import Image  # only where there are photos

    pictures = []
    for row in rows[:8]:
        pixels = np.clip(np.rint(row / told["scale"]), 0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(stream, "PNG")
        pictures.append(stream.getvalue())
    return pictures
