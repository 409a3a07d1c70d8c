"""What a model answers to each row of its data, checked and piece by piece."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from masslib._util.cores import available_cores
from masslib._util.structures import flat
from masslib.data.rows import nested

_CHUNK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Source:
    """Rows to evaluate on.

    Attributes:
        take: slice -> `(x, y)` or `(x, y, sample_weight)`, each an array or a structure of arrays.
        rows: How many there are.
        labels: Gives all labels, an array or a structure of arrays.
        classes: Names of the classes; of several outputs a structure of such; or None.
    """

    take: Callable[[slice], tuple[Any, ...]]
    rows: int
    labels: Callable[[], Any]
    classes: Any


@dataclass(frozen=True)
class Piece:
    """Some rows with what the model answers to them, each by the name of the output.

    A model with one array as output has one, of the name "".

    Attributes:
        rows: Which rows.
        x: Their inputs, as the data hold them.
        outputs: Name -> finite floats `(rows, ...)`.
        y: Name -> labels `(rows, ...)`; without the outputs that have none.
        weights: Name -> weights `(rows, ...)`; without the outputs that have none.
        by_name: Sorts a structure of labels or names of classes, such as those of all rows, by the outputs.
    """

    rows: slice
    x: Any
    outputs: dict[str, np.ndarray]
    y: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]
    by_name: Callable[[str, Any], dict[str, Any]]


def outputs_and_labels(model: Any, data: Any, batch_size: int) -> tuple[np.ndarray, np.ndarray, tuple[str, ...] | None]:
    """Outputs `(n, ...)`, labels `(n, ...)` and the names of the classes, for models with one output.

    Raises:
        TypeError: If the model has several outputs.
    """
    source = source_of(data)
    outputs, labels = [], []
    for piece in pieces(model, source, batch_size):
        if "" not in piece.outputs:
            raise TypeError(f"predict() gave the outputs {', '.join(piece.outputs)}; expected one array")
        outputs.append(piece.outputs[""])
        labels.append(piece.y[""])
    return np.concatenate(outputs), np.concatenate(labels), source.classes


def source_of(data: Any) -> Source:
    """The rows of a `Subset`, of a pair `(x, y)`, or of `(x, y, sample_weight)`."""
    if isinstance(data, tuple | list):
        if len(data) not in (2, 3):
            raise TypeError(
                f"data is a {type(data).__name__} of {len(data)} items; expected (x, y), or (x, y, sample_weight)."
            )
        parts = tuple(_arrays(part) for part in data)
        counts = [sorted({len(leaf) if leaf.ndim else -1 for leaf in leaves(part)}) for part in parts]
        if len({count for several in counts for count in several}) != 1 or -1 in counts[0]:
            shapes = [nested(lambda leaf: leaf.shape, part) for part in parts]
            weighted = f" and sample_weight {shapes[2]}" if len(shapes) == 3 else ""
            raise ValueError(
                f"x has shape {shapes[0]} and y {shapes[1]}{weighted}; expected the same number of rows in all."
            )
        rows, classes = counts[0][0], None

        def take(which: slice) -> tuple[Any, ...]:
            return tuple(nested(lambda leaf: leaf[which], part) for part in parts)

        def labels() -> Any:
            return parts[1]

    elif hasattr(data, "__getitem__") and hasattr(data, "__len__") and hasattr(data, "y"):
        rows, take, classes = len(data), data.__getitem__, getattr(data, "classes", None)

        def labels() -> Any:
            return data.y

    else:
        raise TypeError(f"data is a {type(data).__name__}; expected a Subset, as in splits.test, or a pair (x, y).")
    if rows == 0:
        raise ValueError("data has no rows; there is nothing to evaluate.")
    return Source(take, rows, labels, classes)


def pieces(model: Any, source: Source, batch_size: int) -> Iterator[Piece]:
    """What a model answers to all rows, with one piece of inputs and outputs in memory at a time.

    Args:
        model: Anything with `predict`, or the path of an exported file, which is loaded and closed.
        source: The rows.
        batch_size: Rows per batch of `predict`.

    Raises:
        TypeError: If the model cannot predict.
        ValueError: If outputs and labels do not fit each other, or outputs are NaN or infinite.
    """
    with _predictor(model) as (predict, names):
        start, step = 0, batch_size
        while start < source.rows:
            rows = slice(start, min(start + step, source.rows))
            x, y, *weights = source.take(rows)
            if y is None:
                raise ValueError("data has no labels; pass (x, y), for an autoencoder (x, x)")
            answers = named(predict(x, batch_size), names)
            outputs = {name: _checked(name, np.asarray(answers[name]), rows, source.rows) for name in answers}
            by_name = functools.partial(_matched, list(outputs), names)
            arrays = [
                {name: np.asarray(part) for name, part in by_name(what, parts).items()}
                for what, parts in (("y", y), ("sample_weight", weights[0] if weights else None))
            ]
            yield Piece(rows, x, outputs, *arrays, by_name)
            # Only now it is known how much memory the answers take.
            held = sum(leaf.nbytes for leaf in (*leaves(x), *outputs.values())) // (rows.stop - start)
            start, step = rows.stop, max(1, _CHUNK_BYTES // max(1, held) // batch_size) * batch_size


@contextlib.contextmanager
def _predictor(model: Any) -> Iterator[tuple[Callable[[Any, int], Any], list[str] | None]]:
    """Yields `predict(x, batch_size)` for a model or for the path of a file, and the names of the outputs."""
    with contextlib.ExitStack() as stack:
        if isinstance(model, str | os.PathLike):
            from masslib import runtime

            model = stack.enter_context(contextlib.closing(runtime.load(model, threads=available_cores())))
        if not callable(getattr(model, "predict", None)):
            raise TypeError(
                f"model is a {type(model).__name__} without predict(); expected a Keras model, a loaded "
                "Predictor or the path of an exported file. Of a compressed result pass its .model."
            )
        known = inspect.signature(model.predict).parameters
        quiet = {"verbose": 0} if "verbose" in known else {}

        def predict(x: Any, batch_size: int) -> Any:
            sized = {"batch_size": batch_size} if "batch_size" in known else {}
            return model.predict(x, **sized, **quiet)

        yield predict, output_names(model)


def output_names(model: Any) -> list[str] | None:
    """`model.output_names`, of a `Predictor` those of its `outputs`; None where there are none or not all differ."""
    names = getattr(model, "output_names", None)
    if not names and isinstance(getattr(model, "outputs", None), dict):
        names = list(model.outputs)
    return list(names) if names and len(set(names)) == len(names) else None


def class_names(classes: Any, piece: Piece) -> dict[str, tuple[str, ...]]:
    """Names of the classes by output; of names that belong to no output in particular, the same for all."""
    if classes is None:
        return {}
    if not isinstance(classes, dict) and all(isinstance(name, str) for name in classes):
        return dict.fromkeys(piece.outputs, tuple(classes))
    lists = (
        {key: np.array(names, object) for key, names in classes.items()}
        if isinstance(classes, dict)
        else tuple(None if names is None else np.array(names, object) for names in classes)
    )
    return {name: tuple(map(str, names)) for name, names in piece.by_name("classes", lists).items()}


def of_output(told: Any, name: str, default: Any = None) -> Any:
    """What was told for one output: the same for all, or by name."""
    return told.get(name, default) if isinstance(told, Mapping) else told


def named(outputs: Any, names: list[str] | None) -> dict[str, Any]:
    """What a structure holds, by name: keys of a dict, else the names of the model's outputs, else their numbers."""
    if isinstance(outputs, dict):
        return {
            f"{key}/{inner}" if inner else str(key): array
            for key, part in outputs.items()
            for inner, array in named(part, None).items()
        }
    if not isinstance(outputs, list | tuple):
        return {"": outputs}
    arrays = [array for part in outputs for array in named(part, None).values()]
    if len(arrays) == 1:
        return {"": arrays[0]}
    keys = names if names and len(names) == len(arrays) else list(map(str, range(len(arrays))))
    return dict(zip(keys, arrays, strict=True))


def _matched(outputs: list[str], names: list[str] | None, what: str, values: Any) -> dict[str, Any]:
    """Labels, weights or classes by the name of the output that they belong to; one array of weights belongs to all."""
    if values is None:
        return {}
    if not isinstance(values, dict | list | tuple):
        if len(outputs) > 1 and what == "y":
            raise ValueError(f"y is one array, but the model has the outputs {', '.join(outputs)}; name them in a dict")
        return dict.fromkeys(outputs, values)
    if isinstance(values, dict):
        found = named(values, None)
        if outputs == [""] and list(found) == names:
            found = {"": found[names[0]]}
        if not set(found) <= set(outputs):
            raise ValueError(f"{what} has the names {', '.join(found)}, the model the outputs {', '.join(outputs)}")
    else:
        parts = list(named(values, None).values())
        if len(parts) != len(outputs):
            raise ValueError(f"{what} has {len(parts)} parts, but the model the outputs {', '.join(outputs) or 'one'}")
        found = dict(zip(outputs, parts, strict=True))
    return {name: found[name] for name in outputs if found.get(name) is not None}


def _checked(name: str, outputs: np.ndarray, which_rows: slice, total: int) -> np.ndarray:
    """The outputs as finite floats `(rows, ...)`."""
    which = f" of output {name!r}" if name else ""
    rows = which_rows.stop - which_rows.start
    if outputs.ndim == 0 or len(outputs) != rows or outputs.size == 0:
        raise ValueError(f"predict() gave shape {outputs.shape}{which} for {rows} rows; expected ({rows}, ...).")
    if outputs.dtype.kind not in "fiub":
        raise TypeError(f"predict() gave {outputs.dtype}{which}; expected numbers")
    outputs = outputs.astype(np.result_type(outputs.dtype, np.float32), copy=False)
    finite = np.isfinite(outputs)
    if not finite.all():
        bad = int((~finite.reshape(rows, -1).all(axis=1)).sum())
        raise ValueError(
            f"predict() gave NaN or infinite outputs{which} in {bad} of rows {which_rows.start} to "
            f"{which_rows.stop - 1}, of {total} rows; look for a diverged training (NaN in the weights) or NaN "
            "in the input."
        )
    return outputs


def _arrays(values: Any) -> Any:
    """A structure of arrays; lists of numbers, at any depth, are one array."""
    if isinstance(values, list | tuple) and all(np.isscalar(value) for value in flat(values)):
        return np.asarray(values)
    return nested(np.asarray, values)


def leaves(structure: Any) -> list[np.ndarray]:
    """All arrays of a structure."""
    return [np.asarray(leaf) for leaf in flat(structure)]
