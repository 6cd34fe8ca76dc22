"""Headers that every answer has, whoever asked and whatever for: browsers guess no type and tell no page of it.

What was answered to somebody whom the server knows is kept by no cache, unless the route said how long it may be, or
the answer is content by digest, which has an ``ETag``.
"""

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FIXED: Final = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class FixedHeaders:
    """Adds them to the answers of the application inside it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = "principal" in scope.get("state", {})
                _add(MutableHeaders(scope=message), known=known)
            await send(message)

        await self._app(scope, receive, sent)


def _add(headers: MutableHeaders, *, known: bool) -> None:
    for name, value in FIXED.items():
        headers[name] = value
    if known and "cache-control" not in headers and "etag" not in headers:
        headers["Cache-Control"] = "no-store"
