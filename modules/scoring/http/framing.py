"""The parts of HTTP/1.1 that need no connection: what a request's head announces, and how an answer is written."""

import http
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import unquote

from modules.scoring.http.replies import Header, Reply
from modules.scoring.runtime import Body, Buffer

WITHOUT_BODY: Final = (204, 304)
_STATUS_LINES: Final = {one.value: b"HTTP/1.1 %d %s\r\n" % (one, one.phrase.encode()) for one in http.HTTPStatus}


def head(
    reply: Reply, identity: tuple[Header, ...], *, length: int | None, keep: bool, modern: bool, end: bytes
) -> bytes:
    """Status line and headers, up to and with ``end``, the date and the empty line.

    Without a ``length`` the body comes in chunks where the client is ``modern`` (HTTP/1.1), else it ends with the
    connection.
    """
    parts = [_STATUS_LINES.get(reply.status) or b"HTTP/1.1 %d \r\n" % reply.status]
    parts += [b"%s: %s\r\n" % header for header in reply.headers]
    parts += [b"%s: %s\r\n" % header for header in identity]
    if length is None:
        parts.append(b"transfer-encoding: chunked\r\n" if modern else b"")
    elif reply.status not in WITHOUT_BODY:
        parts.append(b"content-length: %d\r\n" % length)
    if not keep:
        parts.append(b"connection: close\r\n")
    elif not modern:
        parts.append(b"connection: keep-alive\r\n")
    parts.append(end)
    return b"".join(parts)


def parts(body: Body) -> tuple[Buffer, ...]:
    """The parts of a body that is there already, as bytes."""
    if isinstance(body, bytes):
        return (body,)
    if isinstance(body, tuple):
        return tuple(part.cast("B") if isinstance(part, memoryview) else part for part in body)
    assert not isinstance(body, AsyncIterator)  # noqa: S101 - streamed elsewhere
    return (body.cast("B") if isinstance(body, memoryview) else body,)


def announced(fields: list[Header]) -> tuple[int | None, bool, bool, bytes]:
    """A body's length, whether its client waits for our word before it sends it, whether it is chunked, its coding."""
    length, expects, chunked, coding = None, False, False, b""
    for name, value in fields:
        if name == b"content-length":
            length = int(value)
        elif name == b"expect":
            expects = value.lower() == b"100-continue"
        elif name == b"transfer-encoding":
            chunked = True
        elif name == b"content-encoding":
            coding = value
    return length, expects, chunked, coding


def target(url: bytes) -> tuple[str, str]:
    """A request's path, decoded, and its query as it came; of an absolute address what follows the host."""
    path, _, query = url.partition(b"?")
    if not path.startswith(b"/"):
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    while b"//" in path:  # as clients send whose base address ends with one
        path = path.replace(b"//", b"/")
    found = unquote(path.decode("latin-1")) if b"%" in path else path.decode("latin-1")
    return found, query.decode("latin-1")
