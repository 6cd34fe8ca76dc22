"""The one place where an error becomes an HTTP status: problem documents (RFC 9457) from the tree of errors."""

import errno
import http
import logging
import os
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from fleet.db import in_words
from fleet.fixed_headers import FIXED
from fleet.refusals import Busy, Conflict, Forbidden, Missing, TooLarge, TooMany, Unauthorised
from modules.errors import EdgefleetError, Invalid, NeedsOperator, NoSpace, Refused, Transient, Unfit, Untrusted

log = logging.getLogger(__name__)

# The first class that an error is an instance of; classes stand before their parents.
STATUS: Final[tuple[tuple[type[EdgefleetError], http.HTTPStatus], ...]] = (
    (Missing, http.HTTPStatus.NOT_FOUND),
    (Conflict, http.HTTPStatus.CONFLICT),
    (Unauthorised, http.HTTPStatus.UNAUTHORIZED),
    (Forbidden, http.HTTPStatus.FORBIDDEN),
    (TooLarge, http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (TooMany, http.HTTPStatus.TOO_MANY_REQUESTS),
    (Invalid, http.HTTPStatus.UNPROCESSABLE_ENTITY),
    (Untrusted, http.HTTPStatus.UNPROCESSABLE_ENTITY),
    (Unfit, http.HTTPStatus.UNPROCESSABLE_ENTITY),
    (Refused, http.HTTPStatus.UNPROCESSABLE_ENTITY),
    (Transient, http.HTTPStatus.SERVICE_UNAVAILABLE),
    (NeedsOperator, http.HTTPStatus.INTERNAL_SERVER_ERROR),
    (EdgefleetError, http.HTTPStatus.INTERNAL_SERVER_ERROR),
)

# What a disk answers that is no defect of ours, and what to do.
_DISK: Final = {
    errno.ENOSPC: "free disk space on the server, and ask again",
    errno.EDQUOT: "raise the quota of the server's account, and ask again",
    errno.EROFS: "mount the server's disk for writing, and ask again",
    errno.EIO: "look at the server's disk and its log",
}
_NO_JSON: Final = "the body is no JSON in UTF-8"
_WORD: Final = {"type": "string"}
_PROBLEM: Final = {
    "type": "object",
    "properties": dict.fromkeys(("type", "title", "detail", "code", "element", "remedy"), _WORD)
    | {"status": {"type": "integer"}},
    "required": ["type", "title", "status", "detail", "code", "element", "remedy"],
    "additionalProperties": False,
}
# What every route may answer besides: for the OpenAPI document.
REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    "default": {"description": "It was refused", "content": {"application/problem+json": {"schema": _PROBLEM}}}
}


def install(app: FastAPI) -> None:
    """Answer every error with a problem document."""
    app.add_exception_handler(EdgefleetError, _ours)
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_exception_handler(HTTPException, _theirs)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_exception_handler(OperationalError, _database)
    app.add_exception_handler(PoolTimeout, _database)
    app.add_exception_handler(OSError, _disk)
    app.add_exception_handler(Exception, _unexpected)


def status(error: EdgefleetError) -> http.HTTPStatus:
    return next(code for kind, code in STATUS if isinstance(error, kind))


async def _ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, EdgefleetError)  # noqa: S101 - for mypy; installed for this class only
    request.state.code, request.state.why = error.code, str(error)  # for the audit log
    answer = problem(status(error), error.code, error.message, element=error.element, remedy=error.remedy)
    if isinstance(error, TooMany | Busy):
        answer.headers["Retry-After"] = f"{error.wait_s:.0f}"
    return answer


async def _bad_request(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - for mypy; installed for this class only
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _no_json()
    where = ".".join(str(part) for part in first["loc"])
    return problem(http.HTTPStatus.UNPROCESSABLE_ENTITY, Invalid.code, str(first["msg"]), element=where)


async def _theirs(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - for mypy; installed for this class only
    if isinstance(error.__cause__, UnicodeDecodeError | RecursionError):  # while the framework read a body
        return _no_json()
    found = http.HTTPStatus(error.status_code)
    return problem(found, found.phrase.lower().replace(" ", "-"), str(error.detail))


async def _left(_request: Request, _error: Exception) -> JSONResponse:
    """Whoever breaks off within a body hears nothing of it; a traceback for each would let anybody fill the log."""
    return problem(http.HTTPStatus.BAD_REQUEST, Invalid.code, "the request broke off within its body")


async def _database(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SQLAlchemyError)  # noqa: S101 - for mypy; installed for this class only
    return problem(http.HTTPStatus.SERVICE_UNAVAILABLE, "database", in_words(error), remedy="ask again afterwards")


async def _disk(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OSError)  # noqa: S101 - for mypy; installed for this class only
    if error.errno not in _DISK:
        raise error
    said = f"the server's disk cannot take it: {os.strerror(error.errno)}"
    return problem(http.HTTPStatus.SERVICE_UNAVAILABLE, NoSpace.code, said, remedy=_DISK[error.errno])


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    failed = problem(http.HTTPStatus.INTERNAL_SERVER_ERROR, "error", "the server failed; its log says where")
    failed.headers.update(FIXED)  # this one is answered outside of all middleware
    return failed


def _no_json() -> JSONResponse:
    return problem(http.HTTPStatus.UNPROCESSABLE_ENTITY, Invalid.code, _NO_JSON, element="body")


def problem(code: http.HTTPStatus, name: str, detail: str, *, element: str = "", remedy: str = "") -> JSONResponse:
    """The answer to what was refused or failed."""
    document = {
        "type": f"urn:edgefleet:error:{name}",
        "title": code.phrase,
        "status": int(code),
        "detail": detail,
        "code": name,
        "element": element,
        "remedy": remedy,
    }
    headers = {"WWW-Authenticate": "Bearer"} if code is http.HTTPStatus.UNAUTHORIZED else None
    return JSONResponse(document, status_code=code, media_type="application/problem+json", headers=headers)
