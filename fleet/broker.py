"""The server's session with the broker; the only file of the server that knows the MQTT library.

Clean sessions and plain subscriptions: what was sent while the server was away is retained by the broker or sent again
by the device, because nothing is acknowledged before it is in the database.
"""

import asyncio
import logging
import math
import random
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import aiomqtt

from fleet.arrivals import Arrivals
from modules.errors import BadSettings, Invalid, LinkLost
from modules.names import DeviceId
from modules.protocol.topics import CLAIM, Parsed, Topics

log = logging.getLogger(__name__)

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 30.0
PUBLISH_TIMEOUT_S: Final = 30.0
PENDING: Final = 5000
# Messages between two receipts that are waited for, each of which takes a turn of the broker's; and those that are
# written while the event loop does nothing else.
TOGETHER: Final = 500
IN_A_TURN: Final = 100


def tls_context(*, ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """Mutual TLS with the broker.

    Raises:
        BadSettings: a file is missing or no certificate or key.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca))
        context.load_cert_chain(certificate, key)
    except OSError as error:  # includes ssl.SSLError
        raise BadSettings(str(error), element=str(certificate), remedy="make the data folder with: init") from error
    return context


# What :attr:`BrokerLink.state` says where all is well.
CONNECTED: Final = "connected"


class BrokerLink:
    """Keeps one session open for ever; says once when it is lost and once when it is back."""

    def __init__(self, *, host: str, port: int, tls: ssl.SSLContext, topics: Topics, identifier: str) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._topics = topics
        self._identifier = identifier
        self._client: aiomqtt.Client | None = None
        self._arrivals: Arrivals | None = None
        self._reason = "not connected yet"

    def use(self, tls: ssl.SSLContext) -> None:
        """Show another certificate from the next session on."""
        self._tls = tls

    @property
    def state(self) -> str:
        """``connected``, or why not."""
        return CONNECTED if self._client else self._reason

    @property
    def waiting(self) -> int:
        """Messages that were read and that nobody has taken yet."""
        return len(self._arrivals) if self._arrivals else 0

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Hand a message to the broker; with QoS 1, wait for its receipt.

        Raises:
            LinkLost: there is no session, or it ended meanwhile.
        """
        if self._client is None:
            raise LinkLost(self._reason, element=f"{self._host}:{self._port}")
        try:
            # The library's own timeout loses a cancellation that comes with the receipt: a duty would never end.
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                await self._client.publish(topic, payload, qos=qos, retain=retain, timeout=math.inf)
        except TimeoutError as error:
            raise LinkLost("the broker gave no receipt in time", element=f"{self._host}:{self._port}") from error
        except aiomqtt.MqttError as error:
            raise LinkLost(str(error), element=f"{self._host}:{self._port}") from error

    async def publish_all(self, messages: Sequence[tuple[str, bytes]], *, retain: bool = False) -> None:
        """Hand many messages to the broker with QoS 1, and wait until it has all of them.

        Its receipts come in order, so that the last of some hundreds is everyone's; then the next go out. In between
        others have their turn.

        Raises:
            LinkLost: there is no session, or it ended before the broker had all of them.
        """
        client = self._client
        for number, (topic, payload) in enumerate(messages, start=1):
            if client is None or self._client is not client:
                raise LinkLost(self._reason, element=f"{self._host}:{self._port}")
            if number % TOGETHER == 0 or number == len(messages):
                await self.publish(topic, payload, qos=1, retain=retain)
                continue
            # The library waits for each receipt with a task of its own, which costs more than the message.
            client._client.publish(topic, payload, qos=1, retain=retain)  # noqa: SLF001
            if number % IN_A_TURN == 0:
                await asyncio.sleep(0)

    async def part(self, device: DeviceId) -> None:
        """End a device's session, and let the broker forget what is retained of it.

        The session that has a device's name is this one for a moment: so the broker ends the device's own, which comes
        again only if the broker accepts its certificate.

        Raises:
            LinkLost: the broker does not answer, or not to the end.
        """
        try:
            async with self._session(device) as client:
                for topic in self._topics.retained(device):
                    await client.publish(topic, b"", qos=1, retain=True)
        except (aiomqtt.MqttError, OSError) as error:
            raise LinkLost(str(error), element=f"{self._host}:{self._port}") from error

    async def part_claim(self, claim: str) -> None:
        """End the session of a claim, and let the broker forget whatever it left there.

        Raises:
            LinkLost: the broker does not answer, or not to the end.
        """
        name = f"{CLAIM}{claim}"
        try:
            async with self._session(name) as client:
                own = (self._topics.claim_up(claim), self._topics.claim_down(claim))
                # As long as it lived, it could write what a device may write below its own name.
                for topic in (*own, *self._topics.retained(DeviceId(name))):
                    await client.publish(topic, b"", qos=1, retain=True)
        except (aiomqtt.MqttError, OSError) as error:
            raise LinkLost(str(error), element=f"{self._host}:{self._port}") from error

    async def end_session(self, device: DeviceId) -> None:
        """End a device's session, and with it what the broker keeps for it; an honest device comes again.

        Raises:
            LinkLost: the broker does not answer.
        """
        try:
            async with self._session(device):
                pass
        except (aiomqtt.MqttError, OSError) as error:
            raise LinkLost(str(error), element=f"{self._host}:{self._port}") from error

    async def run(
        self,
        connected: Callable[[], None],
        arrived: Callable[[Parsed, bytes], Awaitable[None]],
        claimed: Callable[[str, bytes], None] = lambda _claim, _payload: None,
    ) -> None:
        """Connect, subscribe to what devices say, hand over each message; again whenever the session ends.

        ``claimed`` gets what devices ask that are still to join.
        """
        wait, told = FIRST_WAIT_S, False
        while True:
            try:
                async with self._session() as client:
                    arrivals = self._arrivals = Arrivals(client)
                    await client.subscribe(self._topics.all_up(), qos=1)
                    await client.subscribe(self._topics.all_claims(), qos=1)
                    self._client, wait = client, FIRST_WAIT_S
                    log.info("connected to the broker at %s:%s", self._host, self._port)
                    told = False
                    connected()
                    await arrivals.hand_over(partial(self._hand_over, arrived, claimed))
            except (aiomqtt.MqttError, OSError) as error:
                self._reason = str(error)
            finally:
                self._client = self._arrivals = None
            if not told:
                log.warning("no session with the broker at %s:%s: %s", self._host, self._port, self._reason)
                told = True
            # Jitter: all servers and devices lose a broker at the same moment.
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            wait = min(wait * 2, LONGEST_WAIT_S)

    async def _hand_over(
        self,
        arrived: Callable[[Parsed, bytes], Awaitable[None]],
        claimed: Callable[[str, bytes], None],
        topic: str,
        payload: bytes,
    ) -> None:
        if (claim := self._topics.of_claim(topic)) is not None:
            claimed(claim, payload)
            return
        try:
            parsed = self._topics.parse(topic)
        except Invalid as error:
            # Not louder: a claim's certificate may write below its own name, too, as often as it likes.
            log.debug("ignored: %s", error)
            return
        await arrived(parsed, payload)

    def _session(self, identifier: str | None = None) -> aiomqtt.Client:
        client = aiomqtt.Client(
            self._host,
            self._port,
            identifier=identifier or self._identifier,
            protocol=aiomqtt.ProtocolVersion.V311,
            tls_context=self._tls,
            timeout=PUBLISH_TIMEOUT_S,
            keepalive=60,
            # Whoever sends many bounds them; the library would look through all that are out at each receipt.
            max_inflight_messages=0,
            # Without it a pull of blocks is five to eleven times slower.
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        # Many receipts are on their way together: that is no trouble, and no line of the log for each.
        client.pending_calls_threshold = PENDING
        return client
