"""Reports and facts on their way to the server, kept on disk until it says that they are in its database.

A report is complete, so a newer one replaces an unacknowledged older one: the outbox never holds more than one. What is
not acknowledged is said again with the next session, and within one after a minute, then ever more seldom: the broker
has receipts for messages that it drops afterwards, because more wait for the server than it keeps.
"""

import random
from collections.abc import Callable
from typing import Final

import msgspec
from securesystemslib.signer import Signer

from agent.batch import kept as batch_jobs
from agent.link import Link
from agent.report import build
from agent.slots import Slot
from agent.store import Store
from modules import __version__, canonical, signing
from modules.clipping import clipped
from modules.errors import LinkLost
from modules.names import DeviceId
from modules.needs import HostFacts
from modules.protocol.batch import BATCH
from modules.protocol.facts import FALLBACKS, Facts
from modules.protocol.report import Ack, Report

# What this agent reads, so that a server sends nothing newer.
READS: Final = ("edgefleet.order/1", "edgefleet.ack/1", "edgefleet.module/1", "edgefleet.command/1", FALLBACKS, BATCH)
# Until an unacknowledged report is said again, and what that wait grows to.
AGAIN_S: Final = 60.0
SELDOM_S: Final = 3600.0
_PENDING: Final = "report"
_SAID: Final = "said"
_ACKNOWLEDGED: Final = "acknowledged"


class Outbox:
    """Signs, numbers, keeps and sends what the device says."""

    def __init__(
        self,
        *,
        device: DeviceId,
        store: Store,
        link: Link,
        signer: Signer,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        sealing: bytes = b"",
        reads: tuple[str, ...] = READS,
    ) -> None:
        self._device = device
        self._store = store
        self._link = link
        self._signer = signer
        self._now, self._monotonic = now, monotonic
        self._sealing, self._reads = sealing, reads
        self._wait_s = AGAIN_S
        self._put_off()
        self._facts: HostFacts | None = None
        self._greeted = False

    async def report(self, slots: tuple[Slot, ...]) -> None:
        """Say how things stand, if that differs from what was said last."""
        draft = build(
            slots,
            self._store.refusals(),
            device=self._device,
            number=1,
            now=0.0,
            order=int(self._store.number("order")),
            agent=__version__,
            epoch=self._store.epoch,
            jobs=tuple(job.report for job in batch_jobs.read(self._store)),
        )
        content = canonical.encode(draft)
        if content == self._store.document(_SAID):
            if self._monotonic() >= self._again_at:
                await self._say_again()
            return
        with self._store.together():
            numbered = msgspec.structs.replace(draft, number=self._store.count("report"), issued=self._now())
            report = clipped(numbered)
            envelope = self._sign(report, signing.REPORT_TYPE)
            self._store.keep_document(_PENDING, envelope)
            self._store.keep_document(_SAID, content)
        self._wait_s = AGAIN_S
        await self._publish_report(envelope)

    async def on_connect(self) -> None:
        """Say again what was not acknowledged; once after each start also what was: the answer shows an old copy."""
        self._wait_s = AGAIN_S
        if (self._waits or not self._greeted) and (envelope := self._store.document(_PENDING)):
            self._greeted = await self._publish_report(envelope) or self._greeted

    def renewed(self) -> None:
        """Another key signs from now on: what the broker keeps of this device is said again, signed with that."""
        self._greeted = False
        self.forget_facts()

    async def _say_again(self) -> None:
        self._wait_s = min(2 * self._wait_s, SELDOM_S)
        self._put_off()
        if self._waits and (envelope := self._store.document(_PENDING)):
            await self._publish_report(envelope)

    def _put_off(self) -> None:
        # Whatever dropped one device's report has dropped those of many.
        self._again_at = self._monotonic() + self._wait_s * random.uniform(0.75, 1.25)  # noqa: S311 - no secret

    @property
    def _waits(self) -> bool:
        """Whether the last report is not acknowledged yet."""
        return self._store.number(_PENDING) > self._store.number(_ACKNOWLEDGED)

    def on_ack(self, ack: Ack) -> bool:
        """The server has committed every report of this epoch up to this number; one of before names no epoch.

        False where that cannot be: the number was never given here, or it was given to other words. Then this state is
        an older copy of what spoke to the server, and what it says is taken for old.
        """
        said = int(self._store.number(_PENDING))
        if ack.epoch == self._store.epoch and (ack.report > said or (ack.twice and ack.report == said)):
            return False
        if ack.epoch in {"", self._store.epoch} and ack.report >= said:
            self._store.raise_number(_ACKNOWLEDGED, said)
        return True

    def begin_epoch(self) -> None:
        """Everything is said anew, with numbers that the server takes for new ones."""
        with self._store.together():
            self._store.begin_epoch()
            self._store.drop_document(_PENDING)
        self.forget_facts()

    async def facts(self, host: HostFacts) -> None:
        """Say what this host is; small changes of free disk are no news."""
        known = msgspec.structs.replace(host, disk_free_mb=host.disk_free_mb >> 10 << 10)
        if known == self._facts or not self._link.connected:
            return
        facts = Facts(
            device=self._device,
            number=self._store.count("facts"),
            issued=self._now(),
            agent=__version__,
            host=host,
            formats=self._reads,
            epoch=self._store.epoch,
            sealing=self._sealing,
        )
        try:
            topic = self._link.topics.facts(self._device)
            await self._link.publish(topic, self._sign(clipped(facts), signing.FACTS_TYPE), retain=True)
        except LinkLost:
            return
        self._facts = known

    def forget_facts(self) -> None:
        """Say the facts again at the next look: the other side may have lost them."""
        self._facts = None

    def forget_report(self) -> None:
        """Say a new report at the next look, though nothing has changed: somebody asked for it."""
        self._store.drop_document(_SAID)

    async def _publish_report(self, envelope: bytes) -> bool:
        """Whether the broker has it; if not it is kept, and sent again at the next connect."""
        self._put_off()
        if not self._link.connected:
            return False
        signed = signing.signed_again(envelope, signers=[self._signer])
        try:
            await self._link.publish(self._link.topics.report(self._device), signed, retain=True)
        except LinkLost:
            return False
        return True

    def _sign(self, document: Report | Facts, kind: str) -> bytes:
        return signing.sign(canonical.encode(document), payload_type=kind, signers=[self._signer])
