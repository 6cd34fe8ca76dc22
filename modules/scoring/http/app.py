"""From a request to the handler of its path, one file per protocol: ``azure``, ``protocol_v2``, ``operation``.

Here is only what they share: who the request is, whether it may come in, how long it took.
"""

import asyncio
import itertools
import logging
import os
import re
import time
from collections.abc import Awaitable, Iterable, Sequence
from typing import Final

from modules import __version__
from modules.scoring.http.access import Access
from modules.scoring.http.admission import Admission
from modules.scoring.http.azure import Azure
from modules.scoring.http.cors import Cors
from modules.scoring.http.replies import RETRY, Handler, Header, Reply, message
from modules.scoring.metrics import Metrics
from modules.scoring.models import Models
from modules.scoring.operation import Operation
from modules.scoring.runtime import Request
from modules.scoring.settings import Script, Settings
from modules.scoring.v2.protocol_v2 import InferenceProtocol

log = logging.getLogger(__name__)

MAX_REQUEST_ID: Final = 100
SERVER_VERSION: Final = f"edgefleet/{__version__}".encode()
_ID: Final = b"x-request-id"
_CLIENTS_ID: Final = b"x-ms-request-id"
_TRACE: Final = b"traceid"
_IDS: Final = frozenset({_ID, _CLIENTS_ID, b"x-ms-client-request-id", _TRACE})
_PRINTABLE: Final = re.compile(rb"[ -~]*").fullmatch
_AS_IT_IS: Final = b"identity"
_VERSION: Final[Header] = (b"x-ms-server-version", SERVER_VERSION)


class App:
    """Everything that is answered, without a socket."""

    def __init__(self, models: Models, settings: Settings, admission: Admission, access: Access | None = None) -> None:
        self._access = access
        self._main = models.main
        self._version = (_VERSION,) if settings.azure.tells_version else ()
        self.metrics = Metrics()
        self.operation = Operation(models, settings, self.metrics, admission)
        self._inference = InferenceProtocol(models)
        self._cors = Cors(settings.azure.origins)
        inference = {path: self._cors.around(handler) for path, handler in self._inference.routes().items()}
        for_pages = {**Azure(models, settings, self._cors).routes(), **inference}
        self._for_pages = frozenset(map(str.encode, for_pages))
        self._routes: dict[str, Handler] = {**for_pages, **self.operation.routes()}
        self._decodes_itself = b"/score" if isinstance(settings.serves, Script) else None
        self._made = _request_ids()

    def identify(self, headers: Iterable[Header]) -> tuple[Header, ...]:
        """The headers that say which request an answer belongs to, the id first.

        Raises:
            Reply: an id is too long to be logged and sent back, or no printable ASCII.
        """
        given = {name: value for name, value in headers if name in _IDS and (value or name == _TRACE)}
        if not given:
            made = next(self._made)
            return ((_ID, made), (_CLIENTS_ID, made), *self._version)
        for name, value in given.items():
            if name != _TRACE and (len(value) > MAX_REQUEST_ID or not _PRINTABLE(value)):
                raise message(431, f"{name.decode()} must be at most {MAX_REQUEST_ID} printable ASCII characters")
        made = given.get(_ID) or next(self._made)
        client = given.get(b"x-ms-client-request-id") or given.get(_CLIENTS_ID)
        found = [(_ID, made), (_CLIENTS_ID, given.get(_CLIENTS_ID) or client or made)]
        if client:
            found.append((b"x-ms-client-request-id", client))
        if (trace := given.get(_TRACE)) is not None:
            found.append((_TRACE, trace))
        return (*found, *self._version)

    def admit(self, url: bytes, headers: Sequence[Header], method: bytes = b"POST") -> None:
        """Let a request in, by its head alone, before its body is read.

        Raises:
            Reply: it may not come in.
        """
        if self._access is not None and self._preflight(url.partition(b"?")[0], headers, method) is None:
            self._access.check(url, headers)

    def admit_coding(self, url: bytes, coding: bytes) -> None:
        """Let a body in by its ``Content-Encoding``; a script that takes whole requests decodes them itself.

        Raises:
            Reply: 415, since nobody here would decode it.
        """
        if coding.lower() != _AS_IT_IS and url.partition(b"?")[0] != self._decodes_itself:
            why = f"the body is sent with Content-Encoding {coding.decode('latin-1')}: send it without, as it is"
            raise message(415, why, ((b"accept-encoding", b"identity"),))

    def refused(self, reply: Reply, headers: Sequence[Header], method: bytes) -> None:
        """Let the page that asked read why its request did not come in."""
        self._cors.share(method, headers, reply)

    def handle(self, request: Request) -> Reply | Awaitable[Reply]:
        """Answer one whole request, at once or later."""
        started = time.perf_counter()
        if request.method == "OPTIONS" and self._access is not None:
            # A script that answers these itself would do so for everybody, since they come without a key.
            early = self._preflight(request.path.encode(), request.raw_headers, b"OPTIONS")
            if early is not None:
                return early
        handler = self._routes.get(request.path)
        if handler is None:
            below = request.path.startswith("/v2/")
            return (
                self._inference.missing(request.path) if below else message(404, f"there is nothing at {request.path}")
            )
        if self.operation.load_seconds is None and request.path == "/score" and not self._main.available:
            return message(503, "the module is not loaded yet", RETRY)
        try:
            reply = handler(request)
        except Reply as ended:
            reply = ended
        if isinstance(reply, Reply):
            self._observe(request, reply, started)
            return reply
        return self._later(request, reply, started)

    def _preflight(self, path: bytes, headers: Sequence[Header], method: bytes) -> Reply | None:
        return self._cors.preflight(method, headers) if path in self._for_pages else None

    async def _later(self, request: Request, awaited: Awaitable[Reply], started: float) -> Reply:
        try:
            reply = await awaited
        except Reply as early:
            reply = early
        except asyncio.CancelledError:
            self.metrics.abandoned += 1
            raise
        self._observe(request, reply, started)
        return reply

    def _observe(self, request: Request, reply: Reply, started: float) -> None:
        if request.path == "/score" or request.path.endswith("/infer"):
            self.observe(request.method, request.id, reply.status, started)

    def observe(self, method: str, request_id: str, status: int, started: float) -> None:
        """Count an answer of a model and log it; ``started`` is of ``time.perf_counter()``."""
        seconds = time.perf_counter() - started
        self.metrics.observe(status, seconds)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s %d in %.1f ms", method, status, seconds * 1000, extra={"request_id": request_id})


def _request_ids() -> "itertools.chain[bytes]":
    """Ids that look like UUIDs and are unique across servers: a random prefix for this process, and a count."""
    prefix = os.urandom(10).hex()
    head = f"{prefix[:8]}-{prefix[8:12]}-{prefix[12:16]}-{prefix[16:20]}-".encode()
    return itertools.chain(b"%s%012x" % (head, count) for count in itertools.count(1))
