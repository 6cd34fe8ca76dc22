"""What each replica of an endpoint says of itself, where its gateway knows them by one address for all.

In a cluster clients' requests go to that address, and another one names them one by one. Nobody but the gateway reaches
them, so whoever may see its index hears it from there.
"""

import asyncio
import socket
from typing import Final
from urllib.parse import urlsplit

import msgspec

from agent.module_client import HEAD_LIMIT, BadAnswer, exchange
from modules.canonical import UNREADABLE
from modules.counted import OfReplica
from modules.protocol.endpoint import MAX_REPLICAS
from modules.protocol.routing import Version

# Whoever asks waits for three seconds.
_WITHIN_S: Final = 2.0
_AT_ONCE: Final = 32
_STATUS: Final = 64 << 10
_OK: Final = 200


async def told(version: Version) -> dict[str, OfReplica]:
    """What each replica of a version says, by its address; one that does not say it in time is left out."""
    if not version.each or not version.replicas:
        return {}
    at, ends = urlsplit(version.each), asyncio.get_running_loop().time() + _WITHIN_S
    try:
        async with asyncio.timeout_at(ends):
            found = await asyncio.get_running_loop().getaddrinfo(at.hostname, at.port, type=socket.SOCK_STREAM)
    except OSError:  # TimeoutError is one, too
        return {}
    addresses = sorted({str(address[0]) for *_, address in found})[:MAX_REPLICAS]
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(address: str) -> OfReplica | None:
        try:
            async with asyncio.timeout_at(ends), places:
                return await _ask(address, at.port or 80, version.replicas[0].key)
        except (OSError, BadAnswer):
            return None

    said = await asyncio.gather(*map(one, addresses))
    return {address: words for address, words in zip(addresses, said, strict=True) if words is not None}


async def _ask(address: str, port: int, key: str) -> OfReplica | None:
    reader, writer = await asyncio.open_connection(address, port, limit=HEAD_LIMIT)
    fields = {"Authorization": f"Bearer {key}"} if key else {}
    answer = await exchange(reader, writer, "GET", "/edgefleet/status", body=b"", fields=fields, limit=_STATUS)
    try:
        return msgspec.json.decode(answer.body, type=OfReplica) if answer.status == _OK else None
    except UNREADABLE:
        return None
