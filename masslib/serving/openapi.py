"""The OpenAPI description of the service, as it stands: `/openapi.json`."""

from __future__ import annotations

from typing import Any

import masslib
from masslib.serving.registry import Registry

_ERROR = {"$ref": "#/components/schemas/Error"}
_NUMBER = {"type": "integer", "minimum": 0, "maximum": 999_999_999_999_999_999}


def document(registry: Registry) -> dict[str, Any]:
    """Describe all addresses; the names of models are those that are served."""
    names = sorted(registry.models) or ["none"]
    name = _parameter("name", {"type": "string", "enum": names}, "path")
    version, label = _parameter("version", _NUMBER, "path"), _parameter("label", {"type": "string"}, "path")
    paths: dict[str, Any] = {
        "/v2": {"get": _operation("About the service")},
        "/v2/health/live": {"get": _operation("Is the process alive?", open_to_all=True)},
        "/v2/health/ready": {"get": _operation("Does it answer?", open_to_all=True)},
        "/v2/repository/index": {"post": _operation("Which versions there are", answer={"type": "array"})},
        "/classify": {"post": _classify(names)},
        "/feedback": {"post": _operation("What the label should have been", body="Feedback")},
        "/status": {"get": _operation("Models, versions, labels, drift")},
        "/metrics": {"get": _operation("Metrics for Prometheus", kind="text/plain", answer={"type": "string"})},
        "/models/{name}/card": {
            "get": _operation("The model card", name, kind="text/markdown", answer={"type": "string"})
        },
    }
    for part, own in (("", []), ("/versions/{version}", [version])):
        root = f"/v2/models/{{name}}{part}"
        paths[root] = {"get": _operation("Inputs and outputs", name, *own)}
        paths[f"{root}/ready"] = {"get": _operation("Does it answer?", name, *own)}
        paths[f"{root}/infer"] = {"post": _operation("Open Inference Protocol", name, *own, body="Infer")}
    for part, own in (("", []), ("/versions/{version}", [version]), ("/labels/{label}", [label])):
        root = f"/v1/models/{{name}}{part}"
        paths[root] = {"get": _operation("States of the versions", name, *own)}
        paths[f"{root}/metadata"] = {"get": _operation("Inputs and outputs", name, *own)}
        paths[f"{root}:predict"] = {"post": _operation("TensorFlow Serving: predict", name, *own, body="Predict")}
        paths[f"{root}:classify"] = {"post": _operation("TensorFlow Serving: classify", name, *own, body="Classify")}
    return {
        "openapi": "3.1.0",
        "info": {"title": "masslib", "version": masslib.__version__},
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _parameter(name: str, schema: dict[str, Any], where: str) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": schema}


def _operation(
    summary: str,
    *parameters: dict[str, Any],
    body: str = "",
    kind: str = "application/json",
    answer: dict[str, Any] | None = None,
    open_to_all: bool = False,
) -> dict[str, Any]:
    refused = {"description": "Refused, with a reason", "content": {"application/json": {"schema": _ERROR}}}
    content = {kind: {"schema": answer or {"type": "object"}}}
    operation: dict[str, Any] = {
        "summary": summary,
        "parameters": list(parameters),
        "responses": {"200": {"description": "Answered", "content": content}, "4XX": refused, "503": refused},
        "security": [] if open_to_all else [{}, {"token": []}],
    }
    if body:
        schema = {"$ref": f"#/components/schemas/{body}"}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _classify(names: list[str]) -> dict[str, Any]:
    photo = {"type": "string", "format": "binary"}
    operation = _operation(
        "Labels of a photo",
        _parameter("model", {"type": "string", "enum": names}, "query"),
        _parameter("version", _NUMBER, "query"),
        _parameter("label", {"type": "string"}, "query"),
        _parameter("top", {"type": "integer", "minimum": 1, "maximum": 999_999}, "query"),
        answer={"$ref": "#/components/schemas/Labels"},
    )
    kinds = ("image/png", "image/jpeg", "image/webp", "application/octet-stream")
    content: dict[str, Any] = {kind: {"schema": photo} for kind in kinds}
    content["multipart/form-data"] = {"schema": {"type": "object", "properties": {"photo": photo}}}
    operation["requestBody"] = {"required": True, "content": content}
    return operation


def _schemas() -> dict[str, Any]:
    text, whole = {"type": "string"}, {"type": "integer", "minimum": 0}
    rows: dict[str, Any] = {"type": "array", "minItems": 1, "items": {}}
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": text,
            "shape": {"type": "array", "items": whole},
            "datatype": text,
            "data": {"type": "array"},
            "parameters": {"type": "object"},
        },
    }
    found = {"type": "object", "required": ["label", "probability"]}
    return {
        "Error": {"type": "object", "required": ["error"], "properties": {"error": text, "request_id": text}},
        "Infer": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": text,
                "inputs": {"type": "array", "minItems": 1, "items": tensor},
                "outputs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
                "parameters": {"type": "object", "properties": {"signature": text, "timeout": whole}},
            },
        },
        "Predict": {"type": "object", "properties": {"signature_name": text, "instances": rows, "inputs": {}}},
        "Classify": {"type": "object", "required": ["examples"], "properties": {"examples": rows}},
        "Feedback": {
            "type": "object",
            "required": ["request_id", "label"],
            "properties": {"request_id": text, "label": text},
        },
        "Labels": {
            "type": "object",
            "required": ["model", "version", "request_id", "labels", "milliseconds"],
            "properties": {"model": text, "version": whole, "labels": {"type": "array", "items": found}},
        },
    }
