"""Which web pages may read the answers (CORS), where the operator names their origins."""

from collections.abc import Awaitable
from typing import Final

from modules.scoring.replies import Handler, Header, Reply
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

    async def _later(self, request: Request, awaited: Awaitable[Reply]) -> Reply:
        return self._shared(request, await awaited)

    def _shared(self, request: Request, reply: Reply) -> Reply:
        if not any(name == _ORIGIN for name, _ in reply.headers):
            reply.headers = (*reply.headers, *self._headers(request))
        return reply

    def _headers(self, request: Request) -> tuple[Header, ...]:
        vary: tuple[Header, ...] = () if self._all else ((b"vary", b"Origin"),)
        origin = request.header(b"origin")
        if origin is None or not (self._all or origin in self._origins):
            return vary
        found = ((_ORIGIN, b"*" if self._all else origin), *vary)
        if request.method != "OPTIONS" or request.header(_PREFLIGHT) is None:
            return found
        asked = request.header(b"access-control-request-headers")
        wanted: tuple[Header, ...] = ((b"access-control-allow-headers", asked),) if asked else ()
        return (*found, (b"access-control-allow-methods", b"GET, POST, OPTIONS"), *wanted)
