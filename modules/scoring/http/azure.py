"""What clients of Azure Machine Learning's server depend on: ``/score``, ``/``, ``/swagger.json``.

Header names with ``x-ms-`` are those of that server.
"""

import asyncio
import logging
import re
import urllib.parse
from collections.abc import Awaitable
from typing import Final

from modules.errors import EdgefleetError
from modules.scoring.graphs import schema
from modules.scoring.http.cors import Cors
from modules.scoring.http.replies import JSON, RETRY, TEXT, Handler, Header, Reply, allow, document, message
from modules.scoring.models import Models
from modules.scoring.runtime import Answer, BadInput, Busy, Request, RunEnded, RunFailed
from modules.scoring.scripts import script_schema
from modules.scoring.settings import Script, Settings

log = logging.getLogger(__name__)

# Headers that a script cannot set: the server's own, and those of the connection.
_OURS: Final = frozenset({
    "connection", "content-length", "keep-alive", "transfer-encoding", "upgrade", "x-ms-client-request-id",
    "x-ms-request-id", "x-ms-run-fn-exec-ms", "x-ms-run-function-failed", "x-request-id",
})  # fmt: skip
_STATUSES: Final = range(200, 600)
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_SHORT: Final = {"2.0": "2", "3.0": "3"}
# What theirs says where nobody names a version.
UNVERSIONED: Final = "1.0"
_PLAIN_JSON: Final = (("content-type", "application/json"),)
_SCORE_METHODS: Final = ("GET", "POST", "OPTIONS")
_PAGE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
_FAILED: Final[Header] = (b"x-ms-run-function-failed", b"True")
# A batch run tells by it what ends a module from what it merely cannot answer.
_ENDED: Final[Header] = (b"x-edgefleet-error", RunEnded.code.encode())
_NOT_FAILED: Final[Header] = (b"x-ms-run-function-failed", b"False")


class Azure:
    """The routes, for the module's main model."""

    def __init__(self, models: Models, settings: Settings, cors: Cors) -> None:
        self._cors = cors
        self._models = models
        self._main = models.main
        self._settings = settings
        serves = settings.serves
        self._by_script = isinstance(serves, Script)
        self._own = script_schema.own(settings.azure.app_root or serves.source) if isinstance(serves, Script) else {}

    def routes(self) -> dict[str, Handler]:
        handlers = {"/": self.health, "/score": self.score, "/swagger.json": self.swagger}
        return {path: self._cors.around(handler) for path, handler in handlers.items()}

    def score(self, request: Request) -> Reply | Awaitable[Reply]:
        allow(request.method, _SCORE_METHODS)
        if request.method == "OPTIONS" and not self._by_script:
            return Reply(200, b"", ((b"allow", b", ".join(map(str.encode, _SCORE_METHODS))),))
        try:
            if self._main.on_demand:
                return self._later(request, self._on_demand(request))
            answer = self._main.runtime.score(request)
            return reply_of(answer) if isinstance(answer, Answer) else self._later(request, _kept(answer))
        except EdgefleetError as error:
            return refusal(request, error)

    def health(self, request: Request) -> Reply:
        if request.method == "OPTIONS":
            return Reply(200, b"", ((b"allow", b", ".join(map(str.encode, _PAGE_METHODS))),))
        allow(request.method, _PAGE_METHODS)
        return Reply(200, b"Healthy", TEXT) if self._main.available else Reply(503, b"Not ready", TEXT)

    def swagger(self, request: Request) -> Reply | Awaitable[Reply]:
        if request.method == "OPTIONS":
            return Reply(200, b"", ((b"allow", b", ".join(map(str.encode, _PAGE_METHODS))),))
        allow(request.method, _PAGE_METHODS)
        return self._described_on_demand(request) if self._main.on_demand else self._described(request)

    def _described(self, request: Request) -> Reply:
        metadata, example = self._main.runtime.metadata(), self._main.runtime.example()
        by_script = metadata.kind == "entry-script"
        # Clients of entry scripts ask without a version and expect the old one.
        asked = [
            value for name, value in urllib.parse.parse_qsl(request.query, keep_blank_values=True) if name == "version"
        ]
        wanted = (asked or ["2" if by_script else "3"])[0]
        wanted = _SHORT.get(wanted, wanted)
        if wanted in self._own:
            return document(self._own[wanted])
        told = {one.removesuffix(".0") for one in metadata.openapi_versions or ()}
        versions = [one for one in schema.VERSIONS if metadata.openapi_versions is None or one in told]
        if wanted not in versions:
            return message(404, f"no document of version {wanted}, only {', '.join(versions)}")
        if not self._main.runtime.ready:
            return message(503, "the module is not ready", RETRY)
        azure, openapi = self._settings.azure, schema.VERSIONS[wanted]
        name = azure.service_name or self._main.name
        version = azure.service_version or (self._main.version if self._settings.module else UNVERSIONED)
        if by_script:
            prefix = azure.prefix
            return document(
                script_schema.document(metadata, example, name=name, version=version, prefix=prefix, openapi=openapi)
            )
        return document(schema.document(metadata, example, name=name, version=version, openapi=openapi))

    async def _described_on_demand(self, request: Request) -> Reply:
        """What a graph takes is in the graph: it is loaded as for a request."""
        try:
            loading = self._models.use(self._main)
            if isinstance(loading, Awaitable):
                await loading
        except EdgefleetError as error:
            return refusal(request, error)
        return self._described(request)

    async def _on_demand(self, request: Request) -> Answer:
        loading = self._models.use(self._main)
        if isinstance(loading, Awaitable):
            await loading
        answer = self._main.runtime.score(request)
        return answer if isinstance(answer, Answer) else await answer

    async def _later(self, request: Request, answer: Awaitable[Answer]) -> Reply:
        try:
            return reply_of(await answer)
        except EdgefleetError as error:
            return refusal(request, error)


def _kept(answer: Awaitable[Answer]) -> Awaitable[Answer]:
    """A script's run goes on when its client goes away, since only killing its worker could stop it."""
    return asyncio.shield(answer) if asyncio.iscoroutine(answer) else answer


def reply_of(answer: Answer) -> Reply:
    """An answer as HTTP.

    Raises:
        RunFailed: a status or header that HTTP does not have.
    """
    headers = JSON if answer.headers is _PLAIN_JSON or answer.headers == _PLAIN_JSON else _checked(answer)
    if answer.run_ms is not None:
        headers = (*headers, (b"x-ms-run-fn-exec-ms", b"%.3f" % answer.run_ms))
    headers = (*headers, _FAILED if answer.failed else _NOT_FAILED)
    if answer.status not in _STATUSES:
        raise _impossible(answer)
    return Reply(answer.status, answer.body, headers)


def refusal(request: Request, error: EdgefleetError) -> Reply:
    """What a caller is told of an error: its own mistake, the model's, or ours."""
    if isinstance(error, BadInput):
        return message(400, str(error))
    if isinstance(error, RunFailed):
        log.error("%s", error, extra={"request_id": request.id})
        return message(500, str(error), (_FAILED, _ENDED) if isinstance(error, RunEnded) else (_FAILED,))
    return message(429 if isinstance(error, Busy) else 503, str(error), RETRY)


def _checked(answer: Answer) -> tuple[Header, ...]:
    """The headers that the model's own code set, without those that are the server's."""
    if not all(_NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in answer.headers):
        raise _impossible(answer)
    return tuple(
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in answer.headers
        if name.lower() not in _OURS
    )


def _impossible(answer: Answer) -> RunFailed:
    return RunFailed(
        f"run() answered with a status or header that HTTP does not have: {answer.status}", element="run()"
    )
