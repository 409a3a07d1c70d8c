"""Numbers of a request as arrays, and answers as JSON; what does not fit is refused in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from masslib._util.messages import first_line
from masslib.serving.loaded import Tensor
from masslib.serving.messages import HTTPError, Response

# Names of the Open Inference Protocol
_KINDS = {"INT": ("int", (1, 2, 4, 8)), "UINT": ("uint", (1, 2, 4, 8)), "FP": ("float", (2, 4, 8))}
DATATYPES = {
    f"{name}{8 * size}": np.dtype(f"{kind}{8 * size}") for name, (kind, sizes) in _KINDS.items() for size in sizes
}
DATATYPES["BOOL"] = np.dtype("bool")
NAMES = {dtype: name for name, dtype in DATATYPES.items()}


def parse(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        HTTPError: 400 if it is none.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HTTPError(400, f"the body is no JSON: {first_line(error)}") from None
    if not isinstance(value, dict):
        raise HTTPError(400, "the body is no JSON object")
    return value


def array(data: Any, what: str) -> np.ndarray:
    """Nested lists of numbers.

    Raises:
        HTTPError: 400 if they are ragged or hold anything else.
    """
    try:
        found = np.asarray(data)
    except (ValueError, OverflowError):
        raise HTTPError(400, f"{what} has rows of different lengths") from None
    if found.dtype.kind not in "fiub":
        raise HTTPError(400, f"{what} holds other things than numbers")
    return found


def checked(arrays: Mapping[str, np.ndarray], inputs: tuple[Tensor, ...]) -> tuple[dict[str, np.ndarray], int]:
    """The arrays in the types of the inputs, and how many rows they have.

    Raises:
        HTTPError: 400 if names, shapes or numbers do not fit.
    """
    if arrays.keys() != {tensor.name for tensor in inputs}:
        wanted = ", ".join(tensor.name for tensor in inputs)
        raise HTTPError(400, f"got the inputs {', '.join(sorted(arrays))[:200] or 'none'}; expected {wanted}")
    try:
        found = {tensor.name: tensor.row(arrays[tensor.name]) for tensor in inputs}
    except (ValueError, TypeError) as error:
        raise HTTPError(400, first_line(error)) from None
    counts = {len(rows) for rows in found.values()}
    if len(counts) > 1:
        raise HTTPError(400, "the inputs have different numbers of rows")
    (rows,) = counts
    if not rows:
        raise HTTPError(400, "the inputs have no rows")
    return found, rows


def reply(value: Any, status: int = 200, **headers: str) -> Response:
    """A response with JSON, in which arrays may stand."""
    return Response(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), "application/json", status, headers)


def plain(rows: np.ndarray) -> np.ndarray:
    """An array that `reply` takes."""
    return np.ascontiguousarray(rows, np.float32 if rows.dtype == np.float16 else None)
