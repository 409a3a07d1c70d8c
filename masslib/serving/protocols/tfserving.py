"""TensorFlow Serving's REST (https://www.tensorflow.org/tfx/serving/api_rest): status, metadata, predict, classify."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np

from masslib.runtime.signature import DEFAULT
from masslib.serving import tensors
from masslib.serving.loaded import Tensor
from masslib.serving.messages import HTTPError, Request, Response
from masslib.serving.registry import Model, Version
from masslib.serving.service import Service

_DTYPES = {"float32": "DT_FLOAT", "float64": "DT_DOUBLE", "float16": "DT_HALF", "bool": "DT_BOOL"}


def status(model: Model, only: int | None) -> Response:
    """`GET /v1/models/NAME[/versions/V|/labels/L]`"""
    entries = [_state(number, "AVAILABLE", "OK", "") for number in sorted(model.versions) if only in (None, number)] + [
        _state(number, "END", "INVALID_ARGUMENT", why)
        for number, why in model.refused.items()
        if only in (None, number)
    ]
    return tensors.reply({"model_version_status": entries})


def _state(version: int, state: str, code: str, message: str) -> dict[str, Any]:
    return {"version": str(version), "state": state, "status": {"error_code": code, "error_message": message}}


def metadata(version: Version) -> Response:
    """`GET .../metadata`"""
    loaded = version.loaded
    signatures = {
        name: {
            "inputs": {tensor.name: _described(tensor) for tensor in it.loaded.inputs},
            "outputs": {tensor.name: _described(tensor) for tensor in it.loaded.outputs},
            "method_name": "tensorflow/serving/predict",
        }
        for name, it in {DEFAULT: version, **version.signatures}.items()
    }
    return tensors.reply({
        "model_spec": {"name": loaded.name, "signature_name": "", "version": str(loaded.version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    })  # fmt: skip


def _described(tensor: Tensor) -> dict[str, Any]:
    sizes = [{"size": str(-1 if size is None else size), "name": ""} for size in (None, *tensor.shape)]
    dtype = _DTYPES.get(tensor.dtype.name, f"DT_{tensor.dtype.name.upper()}")
    return {"dtype": dtype, "tensor_shape": {"dim": sizes, "unknown_rank": False}, "name": tensor.name}


async def predict(service: Service, request: Request, model: Model, version: Version) -> Response:
    """`POST ...:predict`, by row (`instances`) or by column (`inputs`)."""
    asked = tensors.parse(request.body)
    version = version.signature(asked.get("signature_name"))
    by_row = "instances" in asked
    if by_row == ("inputs" in asked):
        raise HTTPError(400, "expected either `instances` or `inputs`")
    entries = version.loaded.inputs
    if by_row:
        arrays = await _rows(service, version, asked["instances"])
    elif isinstance(asked["inputs"], dict):
        arrays = {name: tensors.array(data, f"input {name[:64]!r}") for name, data in asked["inputs"].items()}
    elif len(entries) == 1:
        arrays = {entries[0].name: tensors.array(asked["inputs"], "`inputs`")}
    else:
        raise HTTPError(400, "`inputs` has to be an object, because the model has several")
    inputs, rows = tensors.checked(arrays, entries)
    answer = (await service.predict(request, model, version, inputs, rows)).answer.outputs
    columns = {name: tensors.plain(array) for name, array in answer.items()}
    if len(columns) == 1:
        (column,) = columns.values()
        return tensors.reply({"predictions" if by_row else "outputs": column})
    if not by_row:
        return tensors.reply({"outputs": columns})
    return tensors.reply({"predictions": [{name: column[k] for name, column in columns.items()} for k in range(rows)]})


async def classify(service: Service, request: Request, model: Model, version: Version) -> Response:
    """`POST ...:classify`: labels with their scores, best first."""
    asked = tensors.parse(request.body)
    version = version.signature(asked.get("signature_name"))
    loaded = version.loaded
    if loaded.labels is None:
        raise HTTPError(400, f"model {loaded.name} has no labels; use :predict")
    examples, context = asked.get("examples"), asked.get("context") or {}
    if not isinstance(examples, list) or not isinstance(context, dict):
        raise HTTPError(400, "expected `examples`, a list of objects")
    rows = [{**context, **example} if isinstance(example, dict) else example for example in examples]
    inputs, count = tensors.checked(await _rows(service, version, rows), loaded.inputs)
    result = await service.predict(request, model, version, inputs, count)
    scores = result.first
    order = np.argsort(-scores, axis=1, kind="stable")
    labels = loaded.labels
    found = [[[labels[k], float(row[k])] for k in best] for row, best in zip(scores, order, strict=True)]
    return tensors.reply({"results": found})


async def _rows(service: Service, version: Version, rows: Any) -> dict[str, np.ndarray]:
    """Columns of rows: values, objects with a value per input, or photos in base64."""
    if not isinstance(rows, list) or not rows:
        raise HTTPError(400, "expected a list with at least one row")
    inputs = version.loaded.inputs
    if not any(isinstance(row, dict) for row in rows):
        if len(inputs) > 1:
            raise HTTPError(400, "every row has to be an object, because the model has several inputs")
        return {inputs[0].name: tensors.array(rows, "the rows")}
    if not all(isinstance(row, dict) for row in rows):
        raise HTTPError(400, "some rows are objects and some are not")
    if len(inputs) == 1:
        photos = [row["b64"] if set(row) == {"b64"} else (row.get(inputs[0].name) or {}) for row in rows]
        photos = [photo["b64"] if isinstance(photo, dict) and set(photo) == {"b64"} else photo for photo in photos]
        if all(isinstance(photo, str) for photo in photos):
            return {inputs[0].name: np.concatenate([await _photo(service, version, photo) for photo in photos])}
    names = set(rows[0])
    if any(set(row) != names for row in rows):
        raise HTTPError(400, "the rows name different inputs")
    return {name: tensors.array([row[name] for row in rows], f"input {name[:64]!r}") for name in names}


async def _photo(service: Service, version: Version, text: str) -> np.ndarray:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise HTTPError(400, "a photo is not in base64") from None
    return (await service.photo(version, data))[0]
