"""Does an exported file answer as the model does?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from masslib import runtime
from masslib.export import preflight
from masslib.export.endpoints import Endpoint
from masslib.graph.probes import probe_inputs
from masslib.runtime import Predictor
from masslib.runtime.signature import arranged

# Kind and size of the relative difference that each precision allows. Rounding of single weights shows in the
# largest difference; quantization noise is judged by its mean, since one uncertain image may well flip. Of outputs that
# are no floats, such as classes, it is the share that may differ.
ALLOWED: dict[str, tuple[str, float]] = {
    "float32": ("largest", 1e-4),
    "float16": ("largest", 2e-2),
    "bfloat16": ("mean", 3e-2),
    "dynamic": ("mean", 3e-2),
    "int8": ("mean", 5e-2),
    "int16x8": ("mean", 3e-2),
    "int4": ("mean", 1e-1),
}
_ROWS, _LEAST, _ENOUGH = 64, 8, 2**20
_OPEN, _FUNCTION_ROWS = 8, 2


def check(
    path: Path,
    endpoints: list[Endpoint],
    precision: str = "float32",
    inputs: Mapping[str, dict[str, np.ndarray] | None] | None = None,
) -> None:
    """Run the file at `path` and its models on the same rows and compare what they answer, output by output.

    Rows on which the model itself answers NaN or infinity are left out, because they tell nothing about the file.

    Args:
        path: The exported file or folder.
        endpoints: What it was made from.
        precision: One of `ALLOWED`; decides how large the difference may be, relative to the largest value of an
            output.
        inputs: Name of the endpoint -> rows by input to compare on, of which 64 are used, or at least 8 where these
            are answered by more than a million numbers; those of `probe_inputs` if absent.

    Raises:
        ValueError: If they disagree by more than the precision allows, or there is no row to compare them on.
    """
    with runtime.load(path) as predictor:
        signatures = predictor.signatures
        for endpoint in endpoints:
            _check(signatures[endpoint.name], endpoint, precision, (inputs or {}).get(endpoint.name))


def _check(predictor: Predictor, endpoint: Endpoint, precision: str, inputs: dict[str, np.ndarray] | None) -> None:
    if inputs is None:
        inputs = _probes(endpoint)
    rows = _rows_that_tell(endpoint, inputs)
    inputs = {name: array[:rows] if array.ndim else array for name, array in inputs.items()}
    expected = {name: np.asarray(answer) for name, answer in endpoint.answered(inputs).items()}
    found = arranged(predictor.predict(inputs, batch_size=_ROWS), endpoint.answers)
    for name, answer in expected.items():
        which = f" in output {name!r}" if len(expected) > 1 else ""
        which += f" of signature {endpoint.name!r}" if len(predictor.signatures) > 1 else ""
        _compare(found[name], answer, endpoint, precision, which)


def _rows_that_tell(endpoint: Endpoint, inputs: dict[str, np.ndarray]) -> int:
    """How many rows are compared: fewer where each of them is answered by very many numbers."""
    if not preflight.is_keras(endpoint.model):
        return _ROWS
    shapes = [tensor.shape[1:] for tensor in endpoint.model.outputs or ()]
    if shapes and all(None not in tuple(shape) for shape in shapes):
        numbers = sum(map(math.prod, shapes))
    else:
        one = endpoint.answered({name: array[:1] for name, array in inputs.items()})
        numbers = sum(np.asarray(answer).size for answer in one.values())
    return min(_ROWS, max(_LEAST, _ENOUGH // max(numbers, 1)))


def _compare(found: np.ndarray, expected: np.ndarray, endpoint: Endpoint, precision: str, which: str) -> None:
    if found.shape != expected.shape:
        raise ValueError(
            f"the {precision} file answers {found.shape}{which}, and {endpoint.title} {expected.shape}; nothing was "
            "written"
        )
    kind, allowed = ALLOWED[precision]
    rows = len(expected) if expected.ndim else 1
    if expected.dtype.kind in "OSUbiu":
        kind, size = "share of different values,", float(np.mean(found != expected)) if expected.size else 0.0
    else:
        kind, size = f"{kind} relative difference", _relative(found, expected, endpoint, kind, which)
    if not size <= allowed:
        raise ValueError(
            f"the {precision} file disagrees with {endpoint.title}{which}: {kind} {size:.3g}, allowed {allowed:g}, on "
            f"{rows} rows; nothing was written"
        )


def _relative(found: np.ndarray, expected: np.ndarray, endpoint: Endpoint, kind: str, which: str) -> float:
    expected = expected.astype("float64").reshape(len(expected) if expected.ndim else 1, -1)
    known = np.isfinite(expected).all(axis=1)
    if not known.any():
        raise ValueError(
            f"{endpoint.title} answers NaN or infinity{which} on all {len(expected)} rows, so that the file cannot be "
            "compared with it; look for NaN in its weights, or pass other example_inputs"
        )
    if not expected.size:
        return 0.0
    expected, found = expected[known], found.reshape(expected.shape)[known]
    difference = np.abs(found - expected) / max(float(np.abs(expected).max()), 1e-30)
    return float(difference.max() if kind == "largest" else difference.mean())


def _probes(endpoint: Endpoint) -> dict[str, np.ndarray]:
    if preflight.is_keras(endpoint.model):
        return arranged(probe_inputs(endpoint.model, _ROWS), endpoint.takes)
    return {name: _drawn(spec, np.random.default_rng(0)) for name, spec in endpoint.specs.items()}


def _drawn(spec: Any, rng: np.random.Generator) -> np.ndarray:
    """Values that most functions can take: open sizes of 8, numbers in [0, 1), whole numbers of 0 and 1."""
    shape = [size or (_OPEN if axis else _FUNCTION_ROWS) for axis, size in enumerate(spec.shape)]
    dtype = spec.dtype
    if dtype.is_floating:
        return rng.random(shape).astype(dtype.as_numpy_dtype)
    if dtype.is_bool or dtype.is_integer:
        return rng.integers(0, 2, shape).astype(dtype.as_numpy_dtype)
    raise ValueError(f"input {spec.name!r} takes {dtype.name}; pass example_inputs to check the file on")
