"""``@input_schema`` and ``@output_schema`` of Microsoft's package ``inference_schema``: arguments, mistakes."""

import copy
import inspect
import json
import sys
from collections.abc import Callable
from typing import Any, Self

from edgefleet_worker.frames import Head

_NOTES = "inference_schema.schema_util"
_CONVERTS = "_deserialize_input_argument"
_JSON = "application/json"


class BadRequest(Exception):
    """The request is not what the schema says; the caller's mistake."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Schema:
    """What the decorators of one ``run`` say, with the examples that they were given."""

    @classmethod
    def of(cls, run: Callable[..., Any]) -> Self | None:
        """What the package has noted about ``run``; None where the script does not use it."""
        if _NOTES not in sys.modules:
            return None
        schema = cls(run)
        return schema if schema.has_input or schema.has_output else None

    def __init__(self, run: Callable[..., Any]) -> None:
        schema_util: Any = sys.modules[_NOTES]
        request = copy.deepcopy(schema_util.get_input_schema(run))
        self.answer = copy.deepcopy(schema_util.get_output_schema(run))
        self.has_input = "properties" in request
        self.has_output = self.answer != {"type": "object"}
        self.request = self._named(request, run) if self.has_input else request
        self.versions: list[str] = schema_util.get_supported_versions(run)

    @property
    def example(self) -> Head | None:
        """The samples that the decorators were given, as a request's body."""
        return self.request.get("example")

    def head(self) -> Head:
        return {
            "request": self.request, "answer": self.answer if self.has_output else {}, "example": self.example,
            "versions": self.versions,
        }  # fmt: skip

    def arguments(self, document: Any, parameters: list[inspect.Parameter]) -> dict[str, Any]:
        """The named parameters, cut out of the JSON object; those left out get their defaults.

        Raises:
            BadRequest: it is no object, or one without a default is missing.
        """
        if not isinstance(document, dict):
            raise BadRequest(400, "the body must be a JSON object")
        missing = [one.name for one in parameters if one.name not in document and one.default is one.empty]
        if missing:
            raise BadRequest(400, f"a value is missing for the parameter {', '.join(map(repr, missing))}")
        return {one.name: document.get(one.name, one.default) for one in parameters}

    def _named(self, request: Head, run: Callable[..., Any]) -> Head:
        """Without the parameters that no caller gives, and with those that every caller must."""
        parameters = inspect.signature(run).parameters.values()
        for one in parameters:
            undecorated = not request["properties"].get(one.name)
            if one.name == "request_headers" or (undecorated and one.default is not one.empty):
                request["example"].pop(one.name, None)
            if one.name == "request_headers":
                request["properties"].pop(one.name, None)
        required = [one.name for one in parameters if one.default is one.empty and one.name in request["properties"]]
        return {**request, "required": required} if required else request


def parsed(body: bytes, content_type: str) -> Any:
    """The JSON of a request.

    Raises:
        BadRequest: it does not say that it is JSON, or is none.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind != _JSON and not (kind.startswith("application/") and kind.endswith("+json")):
        raise BadRequest(415, f"the content type must be {_JSON}, not {kind or 'missing'}")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(400, f"the body is not JSON: {error}") from error


def misfit(error: Exception) -> str | None:
    """What of the input could not be converted; None where the error is not about the input."""
    trace, names = error.__traceback__, list[str]()
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name == _CONVERTS and (name := frame.f_locals.get("param_name")) not in names[-1:]:
            names.append(str(name))
        trace = trace.tb_next
    said = f"there is no {error}" if isinstance(error, KeyError) else str(error)
    return f"{'.'.join(names)}: {said}" if names else None
