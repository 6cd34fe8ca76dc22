"""Who really answers on this device, asked now: the modules by their sockets, the gateway by its address.

What the agent remembers may be old news: it may have ended, and its modules after it.
"""

import asyncio
import http.client
import socket
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from agent.health import alive
from agent.host_name import cheap
from agent.slots import Slot

_TIMEOUT_S: Final = 5.0
_LIMIT: Final = 1 << 20


async def answering(slots: Iterable[Slot]) -> dict[str, bool]:
    """Whether the module that a slot is served by answers, by slot; a slot that nothing serves is not named."""
    serving = {slot.slot: slot.serving for slot in slots if slot.serving is not None}
    asked = [alive(placed.socket, timeout_s=_TIMEOUT_S) for placed in serving.values() if placed is not None]
    return dict(zip(serving, await asyncio.gather(*asked), strict=True))


class Told(NamedTuple):
    """What the gateway says of itself: the generation of the routing table that it uses (0: none), and its slots."""

    generation: int
    slots: list[dict[str, Any]]


def gateway(address: str, *, timeout_s: float = _TIMEOUT_S) -> Told:
    """Ask the gateway. Blocking.

    Raises:
        OSError: nothing listens there, or it is not a gateway that answers in time.
    """
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        raise OSError(None, f"{address!r} is not host:port")
    connection = http.client.HTTPConnection(host := host.strip("[]"), int(port), timeout=timeout_s)
    try:
        connection.sock = socket.create_connection((cheap(host), int(port)), timeout=timeout_s)
        connection.request("GET", "/")
        response = connection.getresponse()
        data = response.read(_LIMIT)
        if response.status not in {http.client.OK, http.client.SERVICE_UNAVAILABLE}:
            raise OSError(f"what listens there answers {response.status}")
        if response.status != http.client.OK:
            return Told(0, [])
        if (generation := response.headers.get("x-edgefleet-table")) is None:
            raise OSError(None, "what listens there is not the gateway: it names no routing table")
        return Told(int(generation), msgspec.json.decode(data, type=list[dict[str, Any]]))
    except (http.client.HTTPException, ValueError, RecursionError) as error:
        raise OSError(f"what listens there is not the gateway: {error}") from error
    finally:
        connection.close()
