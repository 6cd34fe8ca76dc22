"""What the OpenAPI document says of bodies that the framework does not make itself.

The server serves no such document: tests make requests from it, and hold each answer against it.
"""

import http
from typing import Any, Final

from fastapi import Response

# For a route that answers 200 where what came was there already.
CREATED: Final[dict[int | str, dict[str, Any]]] = {
    201: {"description": "Created", "content": {"application/json": {"schema": {"type": "object"}}}}
}


def answers(
    *kinds: str, code: http.HTTPStatus = http.HTTPStatus.OK, also: http.HTTPStatus | None = None
) -> dict[str, Any]:
    """For a route: its answer is bytes of one of these media types, or has no body; ``also`` with another code."""
    content: dict[str, Any] = {kind: {} for kind in kinds}
    codes = {one: {"description": one.phrase, "content": content} for one in (code, also) if one is not None}
    return {"response_class": Response, "status_code": code, "responses": codes}


def takes(kind: str) -> dict[str, Any]:
    """For a route that reads its body by itself: of which media type it is."""
    return {"openapi_extra": {"requestBody": {"required": True, "content": {kind: {"schema": {}}}}}}
