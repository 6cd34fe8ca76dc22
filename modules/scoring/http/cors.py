"""Which web pages may read the answers (CORS), where the operator names their origins."""

from collections.abc import Awaitable, Iterable, Mapping
from typing import Final

from modules.scoring.http.replies import Handler, Header, Reply
from modules.scoring.runtime import Request

_ORIGIN: Final = b"access-control-allow-origin"
_PREFLIGHT: Final = b"access-control-request-method"


class Cors:
    """Adds the headers to a handler's replies; a script that sets its own keeps them. ``*`` lets every page in."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._all = "*" in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def around(self, handler: Handler) -> Handler:
        def handle(request: Request) -> Reply | Awaitable[Reply]:
            try:
                reply = handler(request)
            except Reply as early:
                reply = early
            return self._shared(request, reply) if isinstance(reply, Reply) else self._later(request, reply)

        return handle if self._origins else handler

    def preflight(self, method: bytes, headers: Iterable[Header]) -> Reply | None:
        """The answer to a browser that asks, without its page's key, whether the page may send a request at all.

        None where this is something else, or a page that may not.
        """
        if method != b"OPTIONS":
            return None
        found = dict(headers)
        allowed = self._headers(method, found)
        return Reply(200, b"", allowed) if _PREFLIGHT in found and any(name == _ORIGIN for name, _ in allowed) else None

    def share(self, method: bytes, headers: Iterable[Header], reply: Reply) -> Reply:
        """Let the page that asked read this reply, if its origin is named; headers that stand there already win."""
        if self._origins and not any(name == _ORIGIN for name, _ in reply.headers):
            reply.headers = (*reply.headers, *self._headers(method, dict(headers)))
        return reply

    async def _later(self, request: Request, awaited: Awaitable[Reply]) -> Reply:
        try:
            reply = await awaited
        except Reply as early:
            reply = early
        return self._shared(request, reply)

    def _shared(self, request: Request, reply: Reply) -> Reply:
        return self.share(request.method.encode(), request.raw_headers, reply)

    def _headers(self, method: bytes, asked: Mapping[bytes, bytes]) -> tuple[Header, ...]:
        vary: tuple[Header, ...] = () if self._all else ((b"vary", b"Origin"),)
        origin = asked.get(b"origin")
        if origin is None or not (self._all or origin in self._origins):
            return vary
        found = ((_ORIGIN, b"*" if self._all else origin), *vary)
        if method != b"OPTIONS" or _PREFLIGHT not in asked:
            return found
        names = asked.get(b"access-control-request-headers")
        wanted: tuple[Header, ...] = ((b"access-control-allow-headers", names),) if names else ()
        return (*found, (b"access-control-allow-methods", b"GET, POST, OPTIONS"), *wanted)
