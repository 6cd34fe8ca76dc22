"""The OpenAPI document of an entry script, in the form that clients of Azure Machine Learning's server know.

The names of operations and definitions are those that its generated clients are made of.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from modules.canonical import UNREADABLE
from modules.errors import Invalid
from modules.scoring.runtime import Metadata

_JSON: Final = "application/json"
_OWN: Final = {"2": ("swagger.json", "swagger2.json"), "3": ("swagger3.json",), "3.1": ("swagger3.1.json",)}
_FAILED: Final = "The service could not answer."


def own(folder: str | Path) -> dict[str, Any]:
    """The documents that the script's author wrote beside it, by version.

    Raises:
        Invalid: one is no JSON.
    """
    found = {}
    for version, names in _OWN.items():
        for path in (Path(folder, name) for name in names):
            if version not in found and path.is_file():
                try:
                    found[version] = msgspec.json.decode(path.read_bytes())
                except UNREADABLE as error:
                    raise Invalid(str(error), element=str(path), remedy="write JSON, or remove the file") from error
    return found


def document(
    metadata: Metadata, example: dict[str, Any] | None, *, name: str, version: str, prefix: str, openapi: str
) -> dict[str, Any]:
    """The document in the given version of OpenAPI; ``prefix`` stands before every path."""
    definitions = {
        "ServiceInput": metadata.request_schema or {"type": "object", "example": example or {}},
        "ServiceOutput": metadata.answer_schema
        or {"type": "object"} | ({} if metadata.request_schema else {"example": {}}),
        "ErrorResponse": {"type": "object", "properties": {"message": {"type": "string"}}},
    }
    old = openapi.startswith("2")
    form = _Old() if old else _New()
    health = {"operationId": "ServiceHealthCheck", "description": "Whether the service is up."}
    score = {"operationId": "RunMLService", "description": f"Ask {name} for an answer."}
    swagger = {"operationId": "GetSwaggerSpec", "description": "This document."}
    versions = {"name": "version", "in": "query", "required": False}
    kind = {"type": "string", "enum": ["2", "3", "3.1"]}
    paths = {
        "/": {"get": health | form.responses({"type": "string"}, "text/plain")},
        "/score": {"post": score | form.request() | form.responses(form.reference("ServiceOutput"), _JSON)},
        "/swagger.json": {
            "get": swagger
            | {"parameters": [versions | (kind if old else {"schema": kind})]}
            | form.responses({"type": "object"}, _JSON)
        },
    }
    return {
        **form.head(openapi),
        "info": {"title": name, "description": f"API specification for the service {name}", "version": version},
        "paths": {f"{prefix}{path}": methods for path, methods in paths.items()},
        **form.defined(definitions),
    }


class _Old:
    """Swagger 2.0."""

    def head(self, version: str) -> dict[str, Any]:
        return {"swagger": version, "schemes": ["http", "https"], "consumes": [_JSON], "produces": [_JSON]}

    def reference(self, name: str) -> dict[str, Any]:
        return {"$ref": f"#/definitions/{name}"}

    def request(self) -> dict[str, Any]:
        payload = {"name": "serviceInputPayload", "in": "body", "required": True}
        return {"parameters": [payload | {"schema": self.reference("ServiceInput")}]}

    def responses(self, schema: dict[str, Any], kind: str) -> dict[str, Any]:
        failed = {"description": _FAILED, "schema": self.reference("ErrorResponse")}
        return {"produces": [kind], "responses": {"200": {"description": "Done.", "schema": schema}, "default": failed}}

    def defined(self, definitions: dict[str, Any]) -> dict[str, Any]:
        return {"definitions": definitions}


class _New:
    """OpenAPI 3.x."""

    def head(self, version: str) -> dict[str, Any]:
        return {"openapi": version}

    def reference(self, name: str) -> dict[str, Any]:
        return {"$ref": f"#/components/schemas/{name}"}

    def request(self) -> dict[str, Any]:
        return {"requestBody": {"required": True, "content": {_JSON: {"schema": self.reference("ServiceInput")}}}}

    def responses(self, schema: dict[str, Any], kind: str) -> dict[str, Any]:
        failed = {"description": _FAILED, "content": {_JSON: {"schema": self.reference("ErrorResponse")}}}
        done = {"description": "Done.", "content": {kind: {"schema": schema}}}
        return {"responses": {"200": done, "default": failed}}

    def defined(self, definitions: dict[str, Any]) -> dict[str, Any]:
        return {"components": {"schemas": definitions}}
