"""HTTP to the contract of :mod:`modules.scoring.runtime` and back, as a plain ASGI application.

It translates and decides nothing: routes, header names, status codes. Header names with ``x-ms-`` are those of Azure
Machine Learning's server, which clients and scripts depend on.
"""

import logging
import re
import time
import urllib.parse
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import orjson

from modules import __version__
from modules.errors import EdgefleetError
from modules.scoring import schema
from modules.scoring.metrics import CONTENT_TYPE, Metrics
from modules.scoring.protocol_v2 import model_metadata, server_metadata
from modules.scoring.runtime import Answer, BadInput, ModelRuntime, Request, RunFailed
from modules.scoring.settings import Settings

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_REQUEST_ID: Final = 100
SERVER_VERSION: Final = f"edgefleet/{__version__}".encode()
_JSON: Final = ((b"content-type", b"application/json"),)
_TEXT: Final = ((b"content-type", b"text/plain; charset=utf-8"),)
# Headers that a script cannot set: the server's own, and those of the connection.
_OURS: Final = frozenset({
    "connection", "content-length", "keep-alive", "transfer-encoding", "upgrade", "x-ms-client-request-id",
    "x-ms-request-id", "x-ms-run-fn-exec-ms", "x-ms-run-function-failed", "x-request-id",
})  # fmt: skip
_STATUSES: Final = range(200, 600)
_WITHOUT_BODY: Final = (204, 304)
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_IDS: Final = (b"x-request-id", b"x-ms-request-id", b"x-ms-client-request-id", b"traceid")


class Reply(Exception):
    """A finished answer; raised where it ends a request early."""

    def __init__(self, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = _JSON) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers


class App:
    """The ASGI callable."""

    def __init__(self, runtime: ModelRuntime, settings: Settings) -> None:
        self._runtime = runtime
        self._settings = settings
        self._metrics = Metrics()
        self._born = time.monotonic()
        self.load_seconds: float | None = None
        version = str(settings.module.version) if settings.module else "1"
        model = f"/v2/models/{settings.name}"
        self._version = version
        self._pages: dict[str, Callable[[str], Reply]] = {
            "/": self._health,
            "/swagger.json": self._swagger,
            "/metrics": self._metrics_page,
            "/edgefleet/status": self._status,
            "/v2": lambda _: _json(server_metadata()),
            "/v2/health/live": lambda _: _json({"live": True}),
            "/v2/health/ready": self._ready,
        }
        for path in (model, f"{model}/versions/{version}"):
            self._pages |= {path: self._model, f"{path}/ready": self._ready}

    def loaded(self) -> None:
        """Note how long loading took."""
        self.load_seconds = time.monotonic() - self._born

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        given = {name: value for name, value in scope["headers"] if name in _IDS and value}
        try:
            headers = _identity(given)
        except Reply as refusal:
            await _send(send, refusal, ())
            return
        try:
            path, method = scope["path"], scope["method"]
            if path == "/score":
                reply = await self._score(scope, receive, headers[0][1].decode("ascii"))
            elif page := self._pages.get(path):
                _allow(method, ("GET", "HEAD"))
                reply = page(scope["query_string"].decode("latin-1"))
            else:
                reply = _message(404, f"there is nothing at {path}")
        except Reply as early:
            reply = early
        await _send(send, reply, headers)

    async def _score(self, scope: Scope, receive: Receive, request_id: str) -> Reply:
        method = scope["method"]
        _allow(method, ("GET", "POST", "OPTIONS"))
        started = time.perf_counter()
        body = await _body(scope, receive, self._settings.max_body)
        if not self._runtime.ready and self.load_seconds is None:
            return _message(503, "the module is not loaded yet", ((b"retry-after", b"1"),))
        request = Request(
            id=request_id, method=method, path=scope["path"], query=scope["query_string"].decode("latin-1"),
            headers=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]),
            body=body,
        )  # fmt: skip
        reply = await self._answer(request)
        seconds = time.perf_counter() - started
        self._metrics.observe(reply.status, seconds)
        log.debug("%s %s %d in %.1f ms", request_id, method, reply.status, seconds * 1000)
        return reply

    async def _answer(self, request: Request) -> Reply:
        try:
            answer = await self._runtime.score(request)
            headers = _answer_headers(answer)
        except BadInput as error:
            return _message(400, str(error))
        except RunFailed as error:
            log.error("%s %s", request.id, error)  # noqa: TRY400 - a script's traceback stands in the log already
            return _message(500, str(error), ((b"x-ms-run-function-failed", b"True"),))
        except EdgefleetError as error:
            return _message(503, str(error), ((b"retry-after", b"1"),))
        return Reply(answer.status, b"" if answer.status in _WITHOUT_BODY else answer.body, headers)

    def _health(self, _: str) -> Reply:
        return Reply(200, b"Healthy", _TEXT) if self._runtime.ready else Reply(503, b"Not ready", _TEXT)

    def _ready(self, _: str) -> Reply:
        return _json({"ready": self._runtime.ready}, 200 if self._runtime.ready else 503)

    def _model(self, _: str) -> Reply:
        if not self._runtime.ready:
            return _message(503, "the module is not ready", ((b"retry-after", b"1"),))
        return _json(model_metadata(self._runtime.metadata(), name=self._settings.name, version=self._version))

    def _swagger(self, query: str) -> Reply:
        wanted = dict(urllib.parse.parse_qsl(query)).get("version", "3")
        if wanted not in schema.VERSIONS:
            return _message(404, f"no document of version {wanted}, only {', '.join(schema.VERSIONS)}")
        if not self._runtime.ready:
            return _message(503, "the module is not ready", ((b"retry-after", b"1"),))
        return _json(
            schema.document(
                self._runtime.metadata(), self._runtime.example(), name=self._settings.name, version=self._version,
                openapi=schema.VERSIONS[wanted],
            )
        )  # fmt: skip

    def _metrics_page(self, _: str) -> Reply:
        text = self._metrics.text(ready=self._runtime.ready, provider=self._runtime.metadata().provider_in_use)
        return Reply(200, text.encode(), ((b"content-type", CONTENT_TYPE.encode()),))

    def _status(self, _: str) -> Reply:
        metadata = self._runtime.metadata()
        module = self._settings.module
        return _json({
            "ready": self._runtime.ready,
            "module": str(module) if module else None,
            "kind": metadata.kind,
            "providers_requested": metadata.providers_requested,
            "provider_in_use": metadata.provider_in_use,
            "provider_reason": metadata.provider_reason,
            "onnxruntime": metadata.onnxruntime,
            "load_seconds": self.load_seconds,
            "cores": self._settings.cores,
        })  # fmt: skip


def _identity(given: dict[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    """The headers that say which request this answers, the id first.

    Raises:
        Reply: an id is too long to be logged and sent back, or no printable ASCII.
    """
    for name, value in given.items():
        if len(value) > MAX_REQUEST_ID or not all(0x20 < byte < 0x7F for byte in value):  # noqa: PLR2004 - visible ASCII
            raise _message(431, f"{name.decode()} must be at most {MAX_REQUEST_ID} visible ASCII characters")
    made = given.get(b"x-request-id") or str(uuid.uuid4()).encode()
    headers = [(b"x-request-id", made), (b"x-ms-request-id", given.get(b"x-ms-request-id", made))]
    if client := given.get(b"x-ms-client-request-id") or given.get(b"x-ms-request-id"):
        headers.append((b"x-ms-client-request-id", client))
    if trace := given.get(b"traceid"):
        headers.append((b"traceid", trace))
    return (*headers, (b"x-ms-server-version", SERVER_VERSION))


def _answer_headers(answer: Answer) -> tuple[tuple[bytes, bytes], ...]:
    """What the model's own code says, checked, and how it ran.

    Raises:
        RunFailed: a status or header that HTTP does not have.
    """
    if answer.status not in _STATUSES or not all(_NAME.fullmatch(n) and _VALUE.fullmatch(v) for n, v in answer.headers):
        raise RunFailed(
            f"run() answered with a status or header that HTTP does not have: {answer.status}", element="run()"
        )
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in answer.headers
        if name.lower() not in _OURS
    ]
    if answer.run_ms is not None:
        headers.append((b"x-ms-run-fn-exec-ms", b"%.3f" % answer.run_ms))
    if answer.failed:
        headers.append((b"x-ms-run-function-failed", b"True"))
    return tuple(headers)


def _allow(method: str, methods: tuple[str, ...]) -> None:
    if method not in methods:
        raise _message(405, f"{method} is not allowed here", ((b"allow", ", ".join(methods).encode()),))


async def _body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body.

    Raises:
        Reply: it is larger than ``limit`` bytes; the connection is closed, the rest is not read.
    """
    too_large = _message(413, f"the body is larger than {limit} bytes", ((b"connection", b"close"),))
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > limit:
            raise too_large
    message = await receive()
    if not message.get("more_body"):
        return bytes(message.get("body", b""))
    parts, length = [message["body"]], len(message["body"])
    while message.get("more_body"):
        message = await receive()
        parts.append(message.get("body", b""))
        length += len(parts[-1])
        if length > limit:
            raise too_large
    return b"".join(parts)


def _json(document: Any, status: int = 200) -> Reply:
    return Reply(status, orjson.dumps(document), _JSON)


def _message(status: int, text: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Reply:
    return Reply(status, orjson.dumps({"message": text}), (*_JSON, *headers))


async def _send(send: Send, reply: Reply, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    length = () if reply.status in _WITHOUT_BODY else ((b"content-length", b"%d" % len(reply.body)),)
    await send({"type": "http.response.start", "status": reply.status, "headers": [*reply.headers, *headers, *length]})
    await send({"type": "http.response.body", "body": reply.body})
