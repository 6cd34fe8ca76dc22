"""Under which names the server is asked, and by which pages: before anything else of a request is looked at.

A page in an operator's browser must reach the server neither from another site (``Origin``), nor under a name of its
own that its owner has pointed at the server's address (``Host``; DNS rebinding). An address as ``Host`` is fine, for no
page can have one that is not the server's.
"""

import http
import ipaddress
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet.errors import problem

_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_FOREIGN: Final = "foreign-origin"
_REMEDY: Final = "add it to the server's setting allowed_hosts (EDGEFLEET_FLEET_ALLOWED_HOSTS), or set public_url"


class OwnNames:
    """Lets requests through that name this server; ``own`` are its hosts, ``pages`` where its pages may come from."""

    def __init__(self, app: ASGIApp, *, own: Collection[str], pages: Collection[str]) -> None:
        self._app = app
        self._own = {one.lower().rstrip(".") for one in own}
        self._pages = {one.lower() for one in pages}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._refusal(scope) if scope["type"] in {"http", "websocket"} else None
        await (refused or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        # Programs of HTTP/1.0 say none; browsers always do, and one only.
        if len(hosts) > 1 or any(not self._is_own(host_of(f"//{one}")) for one in hosts):
            said = ", ".join(hosts)[:100]
            return problem(
                http.HTTPStatus.MISDIRECTED_REQUEST,
                "foreign-host",
                f"{said!r} is not a name of this server",
                element="Host",
                remedy=_REMEDY,
            )
        for origin in headers.getlist("origin"):
            if scope.get("method", "") not in _READING and not self._may_ask(origin, hosts):
                # For the audit log, which is around this.
                scope.setdefault("state", {}).update(code=_FOREIGN, why=f"it came from a page of {origin[:100]!r}")
                return problem(
                    http.HTTPStatus.FORBIDDEN,
                    _FOREIGN,
                    f"pages of {origin[:100]!r} may not change anything here",
                    element="Origin",
                    remedy=_REMEDY,
                )
        return None

    def _is_own(self, host: str) -> bool:
        here = host == "localhost" or host.endswith(".localhost")
        if here or host in self._own or f"*.{host.partition('.')[2]}" in self._own:
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True

    def _may_ask(self, origin: str, hosts: list[str]) -> bool:
        """A page of this very address, or of one that the settings name."""
        scheme, _, place = origin.lower().partition("://")
        return scheme in {"https", "http"} and (
            place in {one.lower() for one in hosts} or place in self._pages or host_of(origin) in self._pages
        )


def host_of(address: str) -> str:
    """The host of an address, in lower case; empty where there is none."""
    try:
        return (urlsplit(address).hostname or "").rstrip(".")
    except ValueError:
        return ""
