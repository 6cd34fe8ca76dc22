"""Scripts, styles and fonts of the console: answered from memory, compressed once, and kept by browsers.

A page loads some twenty of them, and the library would read and compress each anew for every request, beside all else
that the server does. What is at an address never changes, since its version is a part of it: the library's own, or a
digest of our files. (The library says so to browsers only where it is mounted at the root.)
"""

import asyncio
import gzip
import hashlib
import http
from pathlib import Path
from typing import Final, NamedTuple

from nicegui import __version__ as library
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet.console.parts import ROOT

STATIC: Final = Path(__file__).parent / "static"
VERSION: Final = hashlib.sha256(b"".join(one.read_bytes() for one in sorted(STATIC.iterdir()))).hexdigest()[:16]
OURS: Final = f"/static/{VERSION}"
KEPT: Final = "public, max-age=31536000, immutable"
_LIBRARY: Final = f"/_nicegui/{library}"
# The library also has dynamic resources, which do change.
_PLACES: Final = (
    *(f"{ROOT}{_LIBRARY}/{one}/" for one in ("static", "libraries", "components", "resources", "esm")),
    f"{ROOT}{OURS}/",
)
# Of what is kept; all that the library has is less.
_MOST_BYTES: Final = 32 << 20
# Fonts and pictures are compressed as they are, and it is not worth it for a few lines.
_SHRINKS: Final = ("text/", "application/json", "application/javascript", "image/svg")
_SMALL: Final = 500


def style(name: str) -> str:
    """What loads a file of ours as styles."""
    return f'<link rel="stylesheet" href="{ROOT}{OURS}/{name}">'


def script(name: str) -> str:
    """What runs a file of ours."""
    return f'<script src="{ROOT}{OURS}/{name}"></script>'


class _Answer(NamedTuple):
    start: Message
    body: bytes


class Assets:
    """Answers again what the application inside it has answered to the first who asked."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._answers: dict[str, _Answer] = {}
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_asset(scope):
            await self._app(scope, receive, send)
            return
        answer = self._answers.get(scope["path"])
        if answer is None:
            answer = await self._asked(scope)
        await send(answer.start)
        await send({"type": "http.response.body", "body": answer.body})

    async def _asked(self, scope: Scope) -> _Answer:
        """The whole of it, though whoever asked first may leave meanwhile: what hears of that stops in the middle."""
        said: list[Message] = []
        asked = asyncio.Queue[Message]()
        asked.put_nowait({"type": "http.request", "body": b"", "more_body": False})

        async def hear(message: Message) -> None:
            said.append(message)

        await self._app(scope, asked.get, hear)
        start, *parts = said
        answer = _Answer(start, b"".join(part.get("body", b"") for part in parts))
        if start["status"] == http.HTTPStatus.OK:
            answer = await asyncio.to_thread(_kept, answer)
            if self._bytes + len(answer.body) <= _MOST_BYTES:
                self._answers[scope["path"]] = answer
                self._bytes += len(answer.body)
        return answer


def _kept(answer: _Answer) -> _Answer:
    """As it is sent from now on."""
    headers, body = MutableHeaders(raw=list(answer.start["headers"])), answer.body
    headers["Cache-Control"] = KEPT
    headers["Vary"] = "Accept-Encoding"
    if len(body) > _SMALL and headers.get("content-type", "").startswith(_SHRINKS):
        body = gzip.compress(body)
        headers["Content-Encoding"] = "gzip"
        headers["Content-Length"] = str(len(body))
    return _Answer({**answer.start, "headers": headers.raw}, body)


def _is_asset(scope: Scope) -> bool:
    """Whether it asks for all of a file, as browsers do: compressed, and under its one name."""
    if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(_PLACES):
        return False
    headers = Headers(scope=scope)
    plain = "//" in scope["path"] or "/." in scope["path"]
    return not plain and "gzip" in headers.get("accept-encoding", "") and "range" not in headers
