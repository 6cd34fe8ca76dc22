"""What a session receives: taken as the library reads it, never dropped, and not read at all while too much waits.

aiomqtt's own queue throws away what does not fit, after the broker was told that it arrived, and makes a task for each
message. Here the library's callback puts messages into a bounded line, and beyond its bound the socket is not read: the
broker waits, and not this server's memory.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

# Messages that wait here; with so many the socket is read no more, until half of them are gone.
WAITING: Final = 1000


class Arrivals:
    """The messages of one session; made before it subscribes. ``client`` is an ``aiomqtt.Client``."""

    def __init__(self, client: Any, waiting: int = WAITING) -> None:
        self._client = client
        self._most = waiting
        self._line: deque[tuple[str, bytes]] = deque()
        self._some = asyncio.Event()
        self._held: Any = None
        self._paho = client._client  # noqa: SLF001 - the library has no way to read slower
        self._paho.on_message = lambda _client, _data, message: self._take(message.topic, bytes(message.payload))

    def __len__(self) -> int:
        return len(self._line)

    async def hand_over(self, arrived: Callable[[str, bytes], Awaitable[None]]) -> None:
        """Hand over each message, in order, until the session ends.

        Raises:
            MqttError: it ended.
        """
        handing = asyncio.create_task(self._hand_over(arrived), name="arrivals")
        ending = asyncio.create_task(self._ended(), name="session")
        try:
            done, _ = await asyncio.wait((handing, ending), return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        finally:
            handing.cancel()
            ending.cancel()
            await asyncio.wait((handing, ending))

    async def _hand_over(self, arrived: Callable[[str, bytes], Awaitable[None]]) -> None:
        while True:
            await self._some.wait()
            while self._line:
                topic, payload = self._line.popleft()
                await arrived(topic, payload)
                if self._held is not None and len(self._line) <= self._most // 2:
                    self._read_again()
            self._some.clear()
            await asyncio.sleep(0)

    async def _ended(self) -> None:
        async for _ in self._client.messages:
            pass  # none comes this way

    def _take(self, topic: str, payload: bytes) -> None:
        self._line.append((topic, payload))
        self._some.set()
        if len(self._line) >= self._most and self._held is None and (socket := self._paho.socket()):
            asyncio.get_running_loop().remove_reader(socket)
            self._held = socket

    def _read_again(self) -> None:
        held, self._held = self._held, None
        if self._paho.socket() is not held or held.fileno() < 0:
            return  # that session is over
        loop = asyncio.get_running_loop()
        loop.add_reader(held, self._read)
        loop.call_soon(self._read)  # what was decrypted already makes no socket readable

    def _read(self) -> None:
        """As the library does it, but for a stop when too much waits."""
        with suppress(OSError):  # a session that is lost is noticed by whoever waits for its end
            while self._held is None and (socket := self._paho.socket()):
                self._paho.loop_read()
                if not socket.pending():
                    break
