"""The session with the broker: mutual TLS, last will, reconnecting; how the agent uses the MQTT library."""

import asyncio
import contextlib
import logging
import math
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Final

import aiomqtt

from agent import identity as identities
from agent.broker_tls import broker_context
from agent.clock import Clock, backoff
from agent.host_name import cheap
from agent.identity import Identity
from agent.mqtt_client import Client, NotLetIn
from modules import canonical
from modules.errors import EdgefleetError, Invalid, LinkLost
from modules.names import Digest
from modules.protocol.report import Status
from modules.protocol.topics import Parsed, Topics

_log = logging.getLogger(__name__)
_MAX_WAIT_S: Final = 300.0
# A session that held this long was a good one: the next outage begins with the shortest wait again.
_GOOD_SESSION_S: Final = 30.0
# So many that ended soon, one after another, are more than a bad link: somebody takes them over.
_TAKEN: Final = 5
# A dead network must not hold up the agent's end; the broker then has the will.
_GOODBYE_S: Final = 2.0
# On a slow link a receipt waits behind blocks that are under way.
_RECEIPT_S: Final = 120.0

OnMessage = Callable[[Parsed, bytes], None]
OnShared = Callable[[Digest, bytes], None]
OnConnect = Callable[[], Coroutine[None, None, None]]


class Link:
    """One device's session. ``run`` keeps it up for ever; ``publish`` works while it is up.

    ``boot`` is the session's number: the last will carries it, so that the will of a dead session, delivered late,
    cannot mark a newer session dead. It carries ``epoch``, too, and where that has changed the session is begun anew.

    Where a renewal has brought a certificate, the session is tried with that, and with the present one where the broker
    refuses that.
    """

    def __init__(
        self,
        identity: Identity,
        folder: Path,
        *,
        on_message: OnMessage,
        on_shared: OnShared = lambda _blob, _payload: None,
        on_connect: OnConnect,
        next_boot: Callable[[], int],
        epoch: Callable[[], str] = str,
        keepalive_s: int,
        clock: Clock,
    ) -> None:
        self._identity = identity
        self._folder = folder
        self._on_message = on_message
        self._on_shared = on_shared
        self._on_connect = on_connect
        #: called once the broker has let the device in with its next certificate, which is the present one then
        self.on_renewed: Callable[[], None] = lambda: None
        #: whether the next pair is this device's, asked before each session with it
        self.is_ours: Callable[[], bool] = lambda: True
        self._next_boot = next_boot
        self._epoch = epoch
        self._keepalive_s = keepalive_s
        self._clock = clock
        self._client: aiomqtt.Client | None = None
        self._was_connected = False
        # Whether the next session is tried with the next certificate, where there is one.
        self._try_next = True
        self._turn = asyncio.Event()
        # Sessions in a row that began well and ended soon.
        self._taken = 0
        self._outage_logged = False
        #: told, once for each, why the broker does not let this device in; empty: it does
        self.on_refusal: Callable[[str], None] = lambda _: None
        self._refusal = ""
        # Kinds of defects that messages have met, each of which is said once.
        self._met: set[str] = set()
        self.topics = Topics(identity.broker.prefix)

    @property
    def connected(self) -> bool:
        return self._client is not None

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Hand a message to the broker.

        Raises:
            LinkLost: there is no session, or it broke.
        """
        if self._client is None:
            raise LinkLost("there is no session with the broker", element=self._where)
        try:
            await self._client.publish(topic, payload, qos=qos, retain=retain, timeout=_RECEIPT_S)
        except aiomqtt.MqttError as error:
            raise LinkLost(str(error), element=self._where) from error

    async def read_shared(self, blob: Digest, *, stop: bool = False) -> None:
        """Read the shared topic of a blob from now on in this session, or read it no more.

        Raises:
            LinkLost: there is no session, or it broke.
        """
        if self._client is None:
            raise LinkLost("there is no session with the broker", element=self._where)
        topic = self.topics.shared_blob(blob)
        try:
            await (self._client.unsubscribe(topic) if stop else self._client.subscribe(topic, qos=0))
        except aiomqtt.MqttError as error:
            raise LinkLost(str(error), element=self._where) from error

    def turn(self) -> None:
        """Begin the session anew, with the next certificate where there is one; soon after, not at once."""
        self._try_next = True
        self._turn.set()

    async def run(self) -> None:
        """Connect, serve, and connect again, until cancelled. An outage is logged once, and so is its end."""
        failures = 0
        while True:
            began = self._clock.monotonic()
            try:
                await self._session()
            except (aiomqtt.MqttError, OSError, EdgefleetError) as error:
                # The broker may hang up before its alert is read; what it said before is still why.
                news = isinstance(error, NotLetIn) and (error.explained or not self._refusal)
                why = str(error) if news else ""
                if not self._outage_logged or why not in {"", self._refusal}:
                    _log.warning("%s: broker lost, serving goes on: %s", self._where, error)
                    self._outage_logged = True
                self._refused(why or self._refusal)
            finally:
                self._was_connected, self._client = self._client is not None, None
            failures = 1 if self._clock.monotonic() - began > _GOOD_SESSION_S else failures + 1
            self._taken = 0 if failures == 1 else self._taken + self._was_connected
            if self._was_connected and self._taken == _TAKEN:
                _log.error(
                    "%s: sessions begin and end within seconds, again and again: does another agent run with this "
                    "device's identity, from a copy of its disk? Enrol one of them anew",
                    self._where,
                )
            await self._clock.sleep(backoff(failures, most_s=_MAX_WAIT_S))

    def _hand_over(self, message: aiomqtt.Message) -> None:
        """One message; the broker may retain it, so nothing in it may end the session."""
        payload = message.payload if isinstance(message.payload, bytes) else b""
        topic = str(message.topic)
        try:
            if blob := self.topics.of_shared_blob(topic):
                self._on_shared(blob, payload)
            else:
                self._on_message(self.topics.parse(topic), payload)
        except Invalid as error:
            _log.info("ignored: %s", error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next messages are taken
            if (met := type(error).__name__) not in self._met:
                self._met.add(met)
                _log.exception("a message at %s met a defect of this program, please report it", topic)

    @property
    def _where(self) -> str:
        return f"{self._identity.broker.host}:{self._identity.broker.port}"

    async def _session(self) -> None:
        device = self._identity.device
        status = self.topics.status(device)
        epoch, boot = self._epoch(), self._next_boot()
        here, gone = (canonical.encode(Status(online=online, boot=boot, epoch=epoch)) for online in (True, False))
        will = aiomqtt.Will(status, gone, qos=1, retain=True)
        upcoming = identities.upcoming(self._folder) if self._try_next else None
        if upcoming and not self.is_ours():
            upcoming = None
        # If it is refused, the next session is tried with the present one.
        self._try_next = upcoming is None
        self._turn.clear()
        client = Client(
            cheap(self._identity.broker.host),
            self._identity.broker.port,
            identifier=device,
            will=will,
            keepalive=self._keepalive_s,
            tls_context=broker_context(self._identity, self._folder, pair=upcoming),
            timeout=30,
            max_concurrent_outgoing_calls=64,
            # Measured: without it a pull is five to eleven times slower.
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        async with client:
            await client.subscribe(self.topics.all_down(device), qos=1)
            self._client = client
            self._refused("")
            if upcoming:
                self._promote()
            # The library's own timeout loses a cancellation that comes with the receipt: the agent would not end.
            async with asyncio.timeout(_RECEIPT_S):
                await client.publish(status, here, qos=1, retain=True, timeout=math.inf)
            if self._outage_logged:
                _log.warning("%s: broker back", self._where)
                self._outage_logged = False
            greeting = asyncio.create_task(self._on_connect(), name="link-on-connect")
            try:
                await self._read(client, epoch)
            finally:
                greeting.cancel()
                # A clean end says goodbye itself; a crash leaves it to the will. Who comes again at once says nothing.
                if not self._turn.is_set():
                    with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
                        async with asyncio.timeout(_GOODBYE_S):
                            await client.publish(status, gone, qos=1, retain=True)

    async def _read(self, client: aiomqtt.Client, epoch: str) -> None:
        """Hand over what comes, until the session is to be begun anew."""
        reading = asyncio.create_task(self._hand_all_over(client, epoch), name="link-messages")
        turning = asyncio.create_task(self._turn.wait(), name="link-turn")
        try:
            await asyncio.wait([reading, turning], return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            for task in (reading, turning):
                task.cancel()
            await asyncio.wait([reading])  # not awaited itself: a cancellation of ours would be taken for its own
            if not reading.cancelled():
                reading.exception()

    async def _hand_all_over(self, client: aiomqtt.Client, epoch: str) -> None:
        async for message in client.messages:
            self._hand_over(message)
            if self._epoch() != epoch:
                return

    def _refused(self, why: str) -> None:
        if why != self._refusal:
            self._refusal = why
            self.on_refusal(why)

    def _promote(self) -> None:
        """The broker let us in with the next certificate: it is the present one from now on."""
        self._try_next = True
        try:
            identities.promote(self._folder)
        except OSError as error:
            _log.warning("the renewed certificate does not take the old one's place yet: %s", error)
            return
        self.on_renewed()
