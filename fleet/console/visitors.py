"""Who may speak to a page that is open: the browser that it was given to, with the session that it was given for.

The library knows a page by an id, which stands in addresses that proxies write down, and does what any connection asks
for any page. So each connection, and each file that is dropped, has to bring the cookie of the page that it names.
"""

import hmac
import http
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qs

from nicegui import Client, core
from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet.console.parts import ROOT
from fleet.people.identify import COOKIE

#: Of a file that is dropped on a page; what may be sent on is less.
LARGEST: Final = 32 << 20
# What a form has around its file.
_AROUND: Final = 64 << 10
_DROPPED: Final = f"{ROOT}/_nicegui/client/"
# A connection for a page that is gone: the library refuses it, and its browser loads the page anew.
_GONE: Final = {"QUERY_STRING": "implicit_handshake=true&client_id=gone&tab_id=gone"}
_OF_PAGES: Final = ("event", "javascript_response", "ack")
# What a browser has to tell of its scripts: anybody who sees the form to log in could fill the server's log.
_UNHEARD: Final = ("log",)


def bind() -> None:
    """Have the library hear a connection for its own page alone; called once, before the first."""
    handlers: dict[str, Any] = core.sio.handlers["/"]
    handlers["connect"] = _opened(handlers["connect"])
    for name in _OF_PAGES:
        handlers[name] = _own(handlers[name])
    for name in _UNHEARD:
        del handlers[name]


def _opened(known: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    async def opened(sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        named = parse_qs(environ.get("QUERY_STRING", "")).get("client_id", [""])[0]
        if not _is_of(named, cookie_parser(environ.get("HTTP_COOKIE", "")).get(COOKIE, "")):
            environ = environ | _GONE
        await known(sid, environ, auth)

    return opened


def _own(known: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
    def heard(sid: str, message: Any) -> None:
        if isinstance(message, dict) and message.get("client_id") in core.sio.rooms(sid):
            known(sid, message)

    return heard


def _is_of(page: str, session: str) -> bool:
    client = Client.instances.get(page)
    its = client.request.cookies.get(COOKIE, "") if client else None
    return its is not None and hmac.compare_digest(its.encode(), session.encode())


class Dropped:
    """Takes a file for a page from that page's browser alone, and none that is longer than pages take."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and scope["path"].startswith(_DROPPED):
            app = self._refusal(scope) or app
        await app(scope, receive, send)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        page = scope["path"].removeprefix(_DROPPED).partition("/")[0]
        if not _is_of(page, Request(scope).cookies.get(COOKIE, "")):
            return PlainTextResponse("this page is not yours", http.HTTPStatus.FORBIDDEN)
        length = Headers(scope=scope).get("content-length", "")
        if not length.isdecimal() or int(length) > LARGEST + _AROUND:
            return PlainTextResponse("it is too large", http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return None
