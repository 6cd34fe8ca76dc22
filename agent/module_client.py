"""Asking a module over HTTP/1.1, bounded in every way that a hostile module could stretch.

One request for each connection, one deadline for all of it, a bound on head and body. What does not read as plain
HTTP/1.1 with one clear length is no answer. A library (h11) would add more memory to the idle agent than all of this.
"""

import asyncio
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from agent.module_socket import connect

HEAD_LIMIT: Final = 16 << 10
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})( [^\r\n]*)?")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*")
_LENGTH: Final = re.compile(rb"[0-9]{1,12}")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(;[^\r\n]*)?\r\n")
_WITHOUT_BODY: Final = {204, 304}


class Answer(NamedTuple):
    """Status, body and head of a module's answer; fields by their names in small letters, the first of each."""

    status: int
    body: bytes
    fields: Mapping[str, str] = MappingProxyType({})


class BadAnswer(Exception):
    """The module answered what is not HTTP, or more than is taken; the message says which."""


async def request(
    path: str,
    method: str,
    target: str,
    *,
    body: bytes = b"",
    content_type: str = "",
    timeout_s: float,
    limit: int,
) -> Answer:
    """One request to the module at the socket ``path``; its answer of at most ``limit`` bytes.

    Raises:
        TimeoutError: it was not done within ``timeout_s`` seconds, connecting and all.
        BadAnswer: see there.
        OSError: nothing listens, or what listens is not a module, or it hung up.
    """
    async with asyncio.timeout(timeout_s):
        connection = await connect(path)
        reader, writer = await asyncio.open_connection(sock=connection, limit=HEAD_LIMIT)
        fields = {"Content-Type": content_type} if content_type else {}
        return await exchange(reader, writer, method, target, body=body, fields=fields, limit=limit)


async def exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    method: str,
    target: str,
    *,
    body: bytes,
    fields: Mapping[str, str],
    limit: int,
) -> Answer:
    """The same over a connection that is open, which it closes; the reader was opened with ``HEAD_LIMIT``.

    ``fields`` are those of the request's head, ``Host`` among them where a module is not asked by its socket.

    Raises:
        BadAnswer, OSError: as :func:`request`.
    """
    try:
        lines = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "module", **fields}.items())
        head = f"{method} {target} HTTP/1.1\r\nConnection: close\r\n{lines}"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body)
        # Not drained: a module that answers before it has read all, and then hangs up, has answered.
        return await _answer(reader, limit)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise BadAnswer(f"it broke off or never ended its lines: {error}") from error
    finally:
        writer.transport.abort()


async def _answer(reader: asyncio.StreamReader, limit: int) -> Answer:
    lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[:-2]
    first = _STATUS.fullmatch(lines[0])
    if first is None:
        raise BadAnswer(f"its answer does not begin like HTTP/1.1: {lines[0][:80]!r}")
    status = int(first[1])
    if status < 200:  # noqa: PLR2004 - an interim answer, which nobody asked for
        raise BadAnswer(f"it answered {status}, which was not asked for")
    fields = _fields(lines[1:])
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value.lower() for name, value in fields if name == b"transfer-encoding"]
    said = {name.decode(): value.decode("latin-1") for name, value in reversed(fields)}
    if status in _WITHOUT_BODY:
        return Answer(status, b"", said)
    if codings and (lengths or codings != [b"chunked"]):
        raise BadAnswer("the length of its answer is not clear")
    if codings:
        return Answer(status, await _chunked(reader, limit), said)
    if lengths:
        return Answer(status, await _exactly(reader, lengths, limit), said)
    return Answer(status, await _to_the_end(reader, limit), said)


def _fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    """The fields of a head, with names in small letters."""
    found = []
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise BadAnswer(f"a line of its head is not a field: {line[:80]!r}")
        found.append((field[1].lower(), field[2]))
    return found


async def _exactly(reader: asyncio.StreamReader, lengths: list[bytes], limit: int) -> bytes:
    if len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0]):
        raise BadAnswer("the length of its answer is not clear")
    length = int(lengths[0])
    if length > limit:
        raise BadAnswer(f"its answer of {length} bytes is longer than the {limit} allowed")
    return await reader.readexactly(length)


async def _chunked(reader: asyncio.StreamReader, limit: int) -> bytes:
    body = bytearray()
    while True:
        head = _CHUNK.fullmatch(await reader.readuntil(b"\r\n"))
        if head is None:
            raise BadAnswer("a chunk of its answer has no proper length")
        length = int(head[1], 16)
        if length == 0:
            return bytes(body)  # trailers are of no interest, and the connection ends here
        if len(body) + length > limit:
            raise BadAnswer(f"its answer is longer than the {limit} bytes allowed")
        body += await reader.readexactly(length)
        if await reader.readexactly(2) != b"\r\n":
            raise BadAnswer("a chunk of its answer is longer than it says")


async def _to_the_end(reader: asyncio.StreamReader, limit: int) -> bytes:
    body = bytearray()
    while some := await reader.read(64 << 10):
        body += some
        if len(body) > limit:
            raise BadAnswer(f"its answer is longer than the {limit} bytes allowed")
    return bytes(body)
