"""A link without a broker: what is published is kept, and the session breaks when a test says so."""

import asyncio

from modules import canonical, signing
from modules.errors import LinkLost
from modules.names import DeviceId
from modules.protocol.facts import Facts
from modules.protocol.report import Report
from modules.protocol.topics import Topics


class RecordingLink:
    """Has the interface of ``agent.link.Link`` that the outbox uses. ``breaks`` lets publishing fail half-way,
    ``swallows`` never ends it."""

    def __init__(self, device: DeviceId) -> None:
        self.topics = Topics()
        self.connected = True
        self.breaks = False
        self.swallows = False
        self.published: list[tuple[str, bytes, bool]] = []
        self._device = device

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        if self.breaks or not self.connected:
            raise LinkLost("there is no session with the broker", element="double")
        if self.swallows:
            await asyncio.Event().wait()
        self.published.append((topic, payload, retain))

    def reports(self, key: signing.Key) -> list[Report]:
        """Every report that was published, its signature verified."""
        return [
            self._read(payload, signing.REPORT_TYPE, Report, key)
            for topic, payload, _ in self.published
            if topic == self.topics.report(self._device)
        ]

    def facts(self, key: signing.Key) -> list[Facts]:
        return [
            self._read(payload, signing.FACTS_TYPE, Facts, key)
            for topic, payload, _ in self.published
            if topic == self.topics.facts(self._device)
        ]

    @staticmethod
    def _read(envelope, payload_type, kind, key):
        payload = signing.verify(envelope, payload_type=payload_type, keys=[key], limit=1 << 20)
        return canonical.decode(payload, kind, limit=1 << 20, what="document")
