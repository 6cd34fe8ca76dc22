"""What all connections share: how many there are, how many bytes of bodies they hold, and whether we are closing."""

import asyncio
import logging
import time
from collections.abc import Iterable
from email.utils import formatdate
from typing import Final, Protocol

from modules.bodies import Bearable, text_length
from modules.scoring.http import weights
from modules.scoring.http.replies import RETRY, Header, Reply, message
from modules.scoring.runtime import Buffer

log = logging.getLogger(__name__)

SWEEP_S: Final = 1.0


class _Client(Protocol):
    deadline: float

    def overdue(self) -> None: ...
    def drain(self) -> None: ...
    def abort(self) -> None: ...


class Overloaded(Exception):
    """A body is not taken; ``reply`` says why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


class Admission:
    """Bounds on connections and on the bytes of bodies in memory; sizes in bytes, ``max_text`` of what is no binary."""

    def __init__(self, *, max_body: int, max_text: int, max_held: int, max_connections: int) -> None:
        self._bearable = Bearable(max_body, max_text)
        self._max_held = max(max_held, max_body)
        self._max_connections = max_connections
        self._clients: set[_Client] = set()
        self._empty = asyncio.Event()
        self.held = 0
        self.refused = 0
        self.draining = False
        self.date = b""
        self._tick()

    @property
    def connections(self) -> int:
        return len(self._clients)

    def enter(self, client: _Client) -> bool:
        """Whether there is room for this connection; it is counted until :meth:`leave` in any case."""
        self._clients.add(client)
        return len(self._clients) <= self._max_connections and not self.draining

    def leave(self, client: _Client) -> None:
        self._clients.discard(client)
        if not self._clients:
            self._empty.set()

    def check_length(self, length: int, headers: Iterable[Header]) -> None:
        """Accept a body of this length.

        Raises:
            Overloaded: it is larger than any body of its kind may be.
        """
        if why := self._bearable.excess(length, headers):
            self.refused += 1
            raise Overloaded(message(413, why, close=True))

    def check_weight(self, body: Buffer, headers: Iterable[Header]) -> None:
        """Accept a whole body by the lists and objects in it.

        Raises:
            Overloaded: read, they would take more memory than the largest body of plain numbers.
        """
        if weights.nested(body, text_length(headers, len(body))) > self._bearable.text * weights.BYTES_PER_BYTE:
            self.refused += 1
            why = "the body has more lists and objects than there is memory for: send less at once, or binary tensors"
            raise Overloaded(message(413, why))

    def hold(self, length: int) -> None:
        """Count bytes of a body that is being read; :meth:`release` gives them back.

        Raises:
            Overloaded: the bodies of all requests together would be too large.
        """
        if self.held + length > self._max_held:
            self.refused += 1
            raise Overloaded(message(429, "the bodies of other requests fill the memory set aside for them", RETRY))
        self.held += length

    def release(self, length: int) -> None:
        self.held -= length

    async def watch(self) -> None:
        """End connections that keep us waiting, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            self._tick()
            now = loop.time()
            for client in [one for one in self._clients if one.deadline < now]:
                try:
                    client.overdue()
                except Exception:
                    # One that cannot be told must not keep the others from being cut.
                    log.exception("a defect of this server: a slow client could not be told so")
                    client.abort()

    async def drain(self, seconds: float) -> None:
        """Let every connection finish what is in flight, and cut what is not done after ``seconds``."""
        self.draining = True
        for client in list(self._clients):
            client.drain()
        try:
            async with asyncio.timeout(seconds):
                while self._clients:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            for client in list(self._clients):
                client.abort()

    def text(self) -> str:
        """Metrics of the connections, in Prometheus' text format."""
        name = "edgefleet_scoring"
        return (
            f"# TYPE {name}_connections gauge\n{name}_connections {len(self._clients)}\n"
            f"# TYPE {name}_held_bytes gauge\n{name}_held_bytes {self.held}\n"
            f"# TYPE {name}_bodies_refused_total counter\n{name}_bodies_refused_total {self.refused}\n"
        )

    def _tick(self) -> None:
        self.date = b"date: %s\r\n\r\n" % formatdate(time.time(), usegmt=True).encode()
