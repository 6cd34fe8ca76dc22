"""The OpenAPI document of what is served, made from the graph: ``/swagger.json`` as 3.x, or Swagger 2.0 on request."""

from typing import Any, Final

from modules.scoring.graphs.tensors import DTYPES
from modules.scoring.runtime import Metadata, Tensor

VERSIONS: Final = {"2": "2.0", "3": "3.0.3", "3.1": "3.1.0"}
_JSON: Final = "application/json"
_ERRORS: Final = {
    "400": "the body is not what the model takes",
    "500": "the model failed, or took too long",
    "503": "not ready yet, or no longer",
}


def document(
    metadata: Metadata, example: dict[str, Any] | None, *, name: str, version: str, openapi: str = "3.0.3"
) -> dict[str, Any]:
    """The document in the given version of OpenAPI (a value of :data:`VERSIONS`)."""
    score: dict[str, Any] = {"operationId": "score", "summary": f"Ask {name} for an answer"}
    health = {"operationId": "health", "summary": "Health", "responses": {"200": {"description": "loaded"}}}
    shared = {"info": {"title": name, "version": version}, "paths": {"/": {"get": health}, "/score": {"post": score}}}
    request, answer = _object(metadata.inputs), _object(metadata.outputs)
    if openapi.startswith("2"):
        if example is not None:
            request["example"] = example
        score |= {
            "consumes": [_JSON],
            "produces": [_JSON],
            "parameters": [{"in": "body", "name": "input", "required": True, "schema": request}],
            "responses": {"200": {"description": "the answer", "schema": answer}} | _errors(),
        }
        return {"swagger": openapi, **shared}
    if len(metadata.inputs) == 1 and metadata.inputs[0].name != "data":
        rows = {"type": "object", "required": ["data"], "properties": {"data": _tensor(metadata.inputs[0])}}
        request = {"anyOf": [request, rows]}
    content: dict[str, Any] = {"schema": request}
    if example is not None:
        content["example"] = example
    score |= {
        "requestBody": {"required": True, "content": {_JSON: content}},
        "responses": {"200": {"description": "the answer", "content": {_JSON: {"schema": answer}}}} | _errors(),
    }
    return {"openapi": openapi, **shared}


def _errors() -> dict[str, Any]:
    return {code: {"description": text} for code, text in _ERRORS.items()}


def _object(tensors: tuple[Tensor, ...]) -> dict[str, Any]:
    """An object with a key for each tensor; without tensors (an entry script) anything goes."""
    if not tensors:
        return {}
    names = [tensor.name for tensor in tensors]
    return {"type": "object", "required": names, "properties": {tensor.name: _tensor(tensor) for tensor in tensors}}


def _tensor(tensor: Tensor) -> dict[str, Any]:
    """Nested arrays around the element's type; a fixed length is both minimum and maximum."""
    if not tensor.ranked:
        return {}
    schema = _element(tensor.dtype)
    for size in reversed(tensor.shape):
        schema = {"type": "array", "items": schema}
        if isinstance(size, int):
            schema |= {"minItems": size, "maxItems": size}
    return schema


def _element(dtype: str) -> dict[str, Any]:
    if "(" in dtype:
        return _container(dtype)
    if "float" in dtype:
        return {"type": "number", "format": "double" if dtype == "float64" else "float"}
    if "int" in dtype:
        return {"type": "integer", "format": "int64" if dtype.endswith("64") else "int32"}
    if dtype in {"bool", "string"}:
        return {"type": "boolean" if dtype == "bool" else "string"}
    return {}


def _container(kind: str) -> dict[str, Any]:
    """A list for a sequence, an object for a map, by ONNX Runtime's name of the type; tensors in it have any shape."""
    if kind.startswith("seq("):
        return {"type": "array", "items": _container(kind[4:-1])}
    if kind.startswith("map("):
        value = kind.partition(",")[2][:-1]
        return {"type": "object", "additionalProperties": _element(DTYPES.get(value, value))}
    return {}
