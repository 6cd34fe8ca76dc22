"""The broker's owner as the enemy: all that a device says and hears passes his hands, and he may do what he likes.

``HostileBroker`` stands between one agent and a real mosquitto. Towards the device it has the broker's own certificate,
towards mosquitto the fleet server's account, and between the two it takes the MQTT packets apart. Whatever reaches the
device he has let through, so this is also the network in between, and the owner of all that the server sends. A row
needs these:

- ``heard``: every message both ways, before anything was done to it; ``last(way, end)`` finds the newest of a topic
- ``rule``: a function of one :class:`Message` to those that go on in its place: ``[]`` drops, two duplicate,
  ``after_s`` delays and so reorders. ``honest()`` puts back the rule that passes everything on
- ``files``: trust metadata by published name, and ``blobs``: bytes by digest, which the device is answered with in the
  server's place, whatever the rule; None as a file answers that there is none
- ``say(level, payload)``: forges a message to the device, below its ``down``; ``plant`` one that mosquitto keeps there;
  ``claim`` one of the device's, below its ``up``; ``send`` any
- ``cut()``: ends the device's session, which comes again by itself

It acknowledges what it takes, and passes all on with QoS 0: nobody has to be told what was kept back.
"""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from fleet.folder import Folder
from modules.digests import BLOCK
from modules.errors import Invalid
from modules.names import DeviceId
from modules.protocol import blobs as wire
from modules.protocol.topics import Topics
from tests.parts.mosquitto import HOST, Broker
from tests.parts.pace import stretched

CONNECT, PUBLISH, PUBACK = 1, 3, 4
_WAIT_S: Final = stretched(20.0)


class Message(NamedTuple):
    """A PUBLISH: ``way`` is ``up`` to the server or ``down`` to the device, ``after_s`` how long he keeps it."""

    way: str
    topic: str
    payload: bytes
    retain: bool = False
    after_s: float = 0.0


Rule = Callable[[Message], Iterable[Message]]


def pass_on(message: Message) -> Iterable[Message]:
    return [message]


class HostileBroker:
    """Listens on ``port`` of loopback; enter it before the device is enrolled through it."""

    def __init__(self, data: Folder, broker: Broker) -> None:
        self._broker, self._topics = broker, Topics(broker.prefix)
        self._near = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._near.load_cert_chain(data.broker, data.key(data.broker))
        self._far = ssl.create_default_context(cafile=str(data.ca))
        self._far.load_cert_chain(data.service, data.key(data.service))
        self.device = DeviceId("")
        self.heard: list[Message] = []
        self.rule: Rule = pass_on
        self.files: dict[str, bytes | None] = {}
        self.blobs: dict[str, bytes] = {}
        self._session: _Session | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, HOST, 0, ssl=self._near))
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self._do(_ended())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_WAIT_S)
        self._loop.close()

    # What he may do

    def honest(self) -> None:
        self.rule = pass_on
        self.files.clear()
        self.blobs.clear()

    def say(self, level: str, payload: bytes) -> None:
        self.send(Message("down", self._topics.down(self.device, *level.split("/")), payload))

    def plant(self, level: str, payload: bytes) -> None:
        self.send(Message("up", self._topics.down(self.device, *level.split("/")), payload, retain=True))

    def claim(self, level: str, payload: bytes) -> None:
        self.send(Message("up", self._topics.up(self.device, *level.split("/")), payload))

    def send(self, message: Message) -> None:
        """To whichever side it goes; lost, where the device has no session."""
        self._loop.call_soon_threadsafe(self._send, message)

    def cut(self) -> None:
        self._loop.call_soon_threadsafe(lambda: self._session and self._session.end())

    def last(self, way: str, end: str) -> bytes | None:
        """The newest payload whose topic ends so."""
        return next((m.payload for m in reversed(self.heard) if m.way == way and m.topic.endswith(end)), None)

    def asked(self) -> list[wire.Get]:
        """All that the device has asked the server for."""
        return [wire.decode_get(m.payload) for m in self.heard if m.way == "up" and m.topic.endswith("/up/blob/get")]

    # How

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_WAIT_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far = await asyncio.open_connection(self._broker.host, self._broker.service_port, ssl=self._far)
        except OSError:
            writer.close()
            return
        session = self._session = _Session(self, writer, far[1])
        ways = [
            asyncio.create_task(session.pump("up", reader)),
            asyncio.create_task(session.pump("down", far[0])),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            session.end()
            await asyncio.gather(*ways, return_exceptions=True)

    def take(self, message: Message) -> None:
        self.heard.append(message)
        if self._answers(message):
            return
        for one in self.rule(message):
            self._loop.call_later(one.after_s, self._send, one) if one.after_s else self._send(one)

    def _send(self, message: Message) -> None:
        if self._session is not None:
            self._session.send(message)

    def _answers(self, message: Message) -> bool:
        """Answer a request in the server's place, if he has something for it."""
        if message.way != "up" or not message.topic.endswith("/up/blob/get") or not (self.files or self.blobs):
            return False
        try:
            get = wire.decode_get(message.payload)
        except Invalid:
            return False
        if isinstance(get, wire.MetadataGet):
            if get.name not in self.files:
                return False
            data = self.files[get.name]
            numbers = range(max(1, -(-len(data or b"") // BLOCK)))
        else:
            if get.digest not in self.blobs:
                return False
            data, numbers = self.blobs[get.digest], get.numbers
        topic = self._topics.blob(self.device, get.request)
        for n in numbers:
            piece = None if data is None else data[n * BLOCK : (n + 1) * BLOCK]
            block = (
                wire.Block(get.request, wire.MISSING, 0, 0, b"no such file")
                if piece is None
                else wire.Block(get.request, wire.OK, n, len(data or b""), piece)
            )
            self._send(Message("down", topic, wire.encode(block)))
        return True


class _Session:
    """One connection of the device's, and the one to mosquitto that belongs to it."""

    def __init__(self, owner: HostileBroker, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._owner = owner
        self._to = {"down": near, "up": far}

    def end(self) -> None:
        for writer in self._to.values():
            writer.close()

    def send(self, message: Message) -> None:
        topic = message.topic.encode()
        body = len(topic).to_bytes(2) + topic + message.payload
        self._write(message.way, bytes([PUBLISH << 4 | message.retain]) + _length(len(body)) + body)

    def _write(self, way: str, packet: bytes) -> None:
        if not self._to[way].is_closing():
            self._to[way].write(packet)

    async def pump(self, way: str, reader: asyncio.StreamReader) -> None:
        """Packets from one side, as MQTT 3.1.1 frames them; all but PUBLISH go on as they are."""
        back = "up" if way == "down" else "down"
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readexactly(1))[0]
                size = await reader.readexactly(1)
                while size[-1] & 0x80:
                    size += await reader.readexactly(1)
                body = await reader.readexactly(sum((byte & 0x7F) << 7 * place for place, byte in enumerate(size)))
                if head >> 4 != PUBLISH:
                    self._write(way, bytes([head]) + size + body)
                    continue
                end = 2 + int.from_bytes(body[:2])
                topic, rest = body[2:end].decode(), body[end:]
                if head & 0x06:
                    self._write(back, bytes([PUBACK << 4, 2]) + rest[:2])
                    rest = rest[2:]
                self._owner.take(Message(way, topic, rest, bool(head & 1)))


def _length(number: int) -> bytes:
    encoded = b""
    while True:
        number, digit = divmod(number, 128)
        encoded += bytes([digit | (0x80 if number else 0)])
        if not number:
            return encoded


async def _ended() -> None:
    """Cancel what still runs in this loop, and wait for its end."""
    rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
